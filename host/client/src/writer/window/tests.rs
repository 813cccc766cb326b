use std::time::Duration;

use super::*;

type Answer = oneshot::Receiver<Result<Bytes, ClientError>>;
type Answers = Vec<Answer>;

fn window(acknowledge: Acknowledge, writes: u64) -> (Window, Answers) {
    let mut window = Window::new(1, 1 << 20, acknowledge);
    let answers = (1..=writes).map(|sequence| push(&mut window, &format!("c{sequence}"))).collect();
    window.restart();
    (window, answers)
}

fn push(window: &mut Window, command: &str) -> Answer {
    let (sender, receiver) = oneshot::channel();
    window.push(command.to_owned().into(), None, Waiter::One(sender));
    receiver
}

fn sequences(message: Option<(u64, Vec<StreamWrite>)>) -> Vec<u64> {
    message.map(|(_, writes)| writes.iter().map(|write| write.sequence).collect()).unwrap_or_default()
}

fn reply(sequence: u64) -> Result<Bytes, ClientError> {
    Ok(Bytes::from(format!("r{sequence}")))
}

fn error(kind: ErrorKind) -> Result<Bytes, ClientError> {
    Err(ClientError::new(kind, "no"))
}

#[test]
fn writes_gather_into_one_message_and_settle_by_sequence() {
    let (mut window, mut answers) = window(Acknowledge::WhenAnswered, 3);
    let (acknowledged, writes) = window.next_message().unwrap();
    assert_eq!((acknowledged, writes.len()), (0, 3));
    assert!(!window.has_message() && window.next_message().is_none());
    for sequence in [3, 1] {
        assert!(matches!(window.answer(sequence, reply(sequence)), Verdict::Settled));
    }
    assert_eq!(answers[2].try_recv().unwrap().unwrap(), "r3");
    assert_eq!(window.take_freed(), (1, 2), "only 1 is in the unbroken row");
    window.answer(2, reply(2));
    assert_eq!(window.take_freed(), (2, 4));
    assert!(window.is_settled());
    push(&mut window, "c4");
    assert_eq!(window.next_message().unwrap().0, 3, "the next message acknowledges");
}

#[test]
fn a_new_stream_sends_again_what_is_unanswered_and_only_that() {
    let (mut window, _answers) = window(Acknowledge::WhenAnswered, 4);
    window.next_message();
    window.answer(1, reply(1));
    window.answer(3, reply(3));
    window.restart();
    assert_eq!(sequences(window.next_message()), [2, 4]);
    assert!(window.next_message().is_none());
}

#[test]
fn repeated_and_foreign_answers_change_nothing() {
    let (mut window, mut answers) = window(Acknowledge::WhenAnswered, 2);
    window.next_message();
    window.answer(2, reply(2));
    window.answer(2, error(ErrorKind::Rejected));
    window.answer(0, reply(0));
    window.answer(99, reply(99));
    window.answer(1, reply(1));
    window.answer(1, reply(9));
    assert_eq!(answers[0].try_recv().unwrap().unwrap(), "r1");
    assert_eq!(answers[1].try_recv().unwrap().unwrap(), "r2");
    assert_eq!(window.take_freed(), (2, 4));
}

#[test]
fn a_write_refused_for_overload_goes_first_next_time() {
    let (mut window, _answers) = window(Acknowledge::WhenAnswered, 3);
    window.next_message();
    assert!(matches!(window.answer(2, error(ErrorKind::Overloaded)), Verdict::Again(_)));
    push(&mut window, "c4");
    assert_eq!(sequences(window.next_message()), [2, 4]);
    window.answer(1, reply(1));
    window.answer(3, reply(3));
    assert_eq!(window.take_freed().0, 1, "2 holds up what comes after");
    window.answer(2, reply(2));
    assert_eq!(window.take_freed().0, 2);
}

#[test]
fn acknowledgement_by_the_caller_holds_room_until_it_comes() {
    let (mut window, _answers) = window(Acknowledge::ByCaller, 3);
    window.next_message();
    (1..=2).for_each(|sequence| drop(window.answer(sequence, reply(sequence))));
    assert_eq!(window.take_freed(), (0, 0));
    window.acknowledge(1);
    assert_eq!(window.take_freed(), (1, 2));
    window.acknowledge(3);
    assert_eq!(window.take_freed(), (1, 2), "3 is not answered");
    window.restart();
    let (acknowledged, writes) = window.next_message().unwrap();
    assert_eq!((acknowledged, writes[0].sequence), (2, 3));
}

#[test]
fn late_writes_are_given_up_and_say_whether_they_were_sent() {
    let now = Instant::now();
    let mut window = Window::new(1, 1 << 20, Acknowledge::WhenAnswered);
    let mut answers: Answers = Vec::new();
    for deadline in [Some(now), None, Some(now + Duration::from_secs(9))] {
        let (sender, receiver) = oneshot::channel();
        window.push("c".into(), deadline, Waiter::One(sender));
        answers.push(receiver);
    }
    window.restart();
    window.next_message();
    let (sender, mut unsent) = oneshot::channel();
    window.push("c".into(), Some(now), Waiter::One(sender));
    window.expire(now, None);
    let late = |answer: &mut Answer| answer.try_recv().unwrap().unwrap_err();
    let sent = late(&mut answers[0]);
    assert_eq!((sent.kind(), sent.took_effect()), (ErrorKind::DeadlineExceeded, TookEffect::Unknown));
    assert_eq!(late(&mut unsent).took_effect(), TookEffect::No);
    assert!(answers[1].try_recv().is_err() && answers[2].try_recv().is_err());
    assert_eq!(window.deadline_min(), Some(now + Duration::from_secs(9)));
    assert!(!window.has_message() || window.next_message().is_none(), "what was given up is not sent");
    window.restart();
    assert_eq!(sequences(window.next_message()), [2, 3]);
}

#[test]
fn a_batch_is_answered_whole_and_in_order() {
    let mut window = Window::new(5, 1 << 20, Acknowledge::WhenAnswered);
    let (sender, mut first) = oneshot::channel();
    window.push_batch(vec!["a".into(), "b".into()], None, sender);
    let (sender, mut second) = oneshot::channel();
    window.push_batch(vec!["c".into()], None, sender);
    let (sender, mut empty) = oneshot::channel();
    window.push_batch(Vec::new(), None, sender);
    assert!(empty.try_recv().unwrap().is_empty());
    window.restart();
    assert_eq!(sequences(window.next_message()), [5, 6, 7]);
    window.answer(7, reply(7));
    assert_eq!(second.try_recv().unwrap().len(), 1);
    window.answer(6, error(ErrorKind::Rejected));
    assert!(first.try_recv().is_err());
    window.answer(5, reply(5));
    let results = first.try_recv().unwrap();
    assert_eq!(results[0].as_ref().unwrap(), "r5");
    assert_eq!(results[1].as_ref().unwrap_err().kind(), ErrorKind::Rejected);
}

#[test]
fn an_expired_session_leaves_doubt_only_about_what_was_sent_before() {
    let (mut window, mut answers) = window(Acknowledge::WhenAnswered, 1);
    window.next_message();
    window.restart();
    let mut fresh = push(&mut window, "c2");
    window.next_message();
    for sequence in [1, 2] {
        assert!(matches!(window.answer(sequence, error(ErrorKind::SessionExpired)), Verdict::Over(_)));
    }
    assert_eq!(answers[0].try_recv().unwrap().unwrap_err().took_effect(), TookEffect::Unknown);
    assert_eq!(fresh.try_recv().unwrap().unwrap_err().took_effect(), TookEffect::No);
}

#[test]
fn messages_are_bounded_and_a_large_command_goes_alone() {
    let mut window = Window::new(1, 1 << 20, Acknowledge::WhenAnswered);
    let mut answers = Vec::new();
    for bytes in [10, MESSAGE_BYTES_MAX + 1, 10, 10] {
        let (sender, receiver) = oneshot::channel();
        window.push(vec![0; bytes].into(), None, Waiter::One(sender));
        answers.push(receiver);
    }
    window.restart();
    assert_eq!(sequences(window.next_message()), [1]);
    assert_eq!(sequences(window.next_message()), [2]);
    assert_eq!(sequences(window.next_message()), [3, 4]);
    assert!(window.refuse_large(&ClientError::new(ErrorKind::TooLarge, "large")));
    assert_eq!(answers[1].try_recv().unwrap().unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(!window.refuse_large(&ClientError::new(ErrorKind::TooLarge, "large")), "nothing large is left");
    window.restart();
    assert_eq!(sequences(window.next_message()), [1, 3, 4]);
}

#[test]
fn only_the_largest_of_large_writes_is_refused_also_where_it_was_sent_before() {
    let mut window = Window::new(1, 10 << 20, Acknowledge::WhenAnswered);
    let mut answers: Vec<Answer> =
        [300 << 10, 900 << 10, 400 << 10].map(|bytes| push(&mut window, &"x".repeat(bytes))).into();
    window.restart();
    (1..=3).for_each(|sequence| assert_eq!(sequences(window.next_message()), [sequence]));
    // Another stream is needed for another reason.
    window.restart();
    (1..=2).for_each(|sequence| assert_eq!(sequences(window.next_message()), [sequence]));
    assert!(window.refuse_large(&ClientError::new(ErrorKind::TooLarge, "large")));
    let refused = answers[1].try_recv().unwrap().unwrap_err();
    assert_eq!((refused.kind(), refused.took_effect()), (ErrorKind::TooLarge, TookEffect::Unknown));
    window.restart();
    (1..=3).step_by(2).for_each(|sequence| assert_eq!(sequences(window.next_message()), [sequence]));
    assert!(answers[0].try_recv().is_err() && answers[2].try_recv().is_err(), "the others wait");
}

#[test]
fn an_end_fails_everything_that_waits() {
    let (mut window, mut answers) = window(Acknowledge::WhenAnswered, 2);
    window.next_message();
    let mut unsent = push(&mut window, "c3");
    window.fail(&ClientError::new(ErrorKind::Superseded, "gone"));
    for answer in &mut answers {
        assert_eq!(answer.try_recv().unwrap().unwrap_err().took_effect(), TookEffect::Unknown);
    }
    assert_eq!(unsent.try_recv().unwrap().unwrap_err().took_effect(), TookEffect::No);
    assert!(window.is_settled());
}

fn token(index: u64) -> Position {
    Position { group: mortise_core::ids::GroupId(1), epoch: 3, index: mortise_core::ids::LogIndex(index) }
}

fn push_early(window: &mut Window) -> (oneshot::Receiver<Position>, Answer) {
    let ((told, tokens), (sender, receiver)) = (oneshot::channel(), oneshot::channel());
    window.push("early".into(), None, Waiter::Early(told, sender));
    (tokens, receiver)
}

#[test]
fn a_write_that_a_leader_acknowledged_is_asked_for_and_never_sent_again() {
    let (mut window, _others) = window(Acknowledge::WhenAnswered, 1);
    let (mut tokens, mut outcome) = push_early(&mut window);
    let (_, writes) = window.next_message().unwrap();
    let acks: Vec<_> = writes.iter().map(StreamWrite::ack).collect();
    assert_eq!(acks, [v1::Ack::Committed, v1::Ack::Leader]);
    window.acknowledged(2, token(7));
    window.acknowledged(2, token(8));
    window.acknowledged(1, token(7));
    assert_eq!(tokens.try_recv(), Ok(token(7)));
    assert!(outcome.try_recv().is_err() && !window.is_settled());

    window.restart();
    let (_, writes) = window.next_message().unwrap();
    assert_eq!((writes[0].command.as_ref(), writes[0].token), (b"c1".as_slice(), None));
    assert_eq!((writes[1].command.as_ref(), writes[1].token), (b"".as_slice(), Some(token(7).into())));
    window.answer(2, error(ErrorKind::Lost));
    let lost = outcome.try_recv().unwrap().unwrap_err();
    assert_eq!((lost.kind(), lost.took_effect()), (ErrorKind::Lost, TookEffect::No));
}

#[test]
fn a_lost_write_that_was_sent_twice_may_have_been_executed() {
    let (mut window, _) = window(Acknowledge::WhenAnswered, 0);
    let (mut tokens, mut outcome) = push_early(&mut window);
    window.next_message();
    window.restart();
    window.next_message();
    window.acknowledged(1, token(7));
    window.answer(1, error(ErrorKind::Lost));
    assert_eq!(tokens.try_recv(), Ok(token(7)));
    assert_eq!(outcome.try_recv().unwrap().unwrap_err().took_effect(), TookEffect::Unknown);
}

#[test]
fn an_outcome_without_a_token_ends_the_wait_for_one() {
    let (mut window, _) = window(Acknowledge::WhenAnswered, 0);
    let (mut tokens, mut outcome) = push_early(&mut window);
    window.next_message();
    window.answer(1, error(ErrorKind::Rejected));
    window.acknowledged(1, token(7));
    assert_eq!(tokens.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    assert_eq!(outcome.try_recv().unwrap().unwrap_err().kind(), ErrorKind::Rejected);
}
