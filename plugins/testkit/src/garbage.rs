//! Commands that nobody means: seeded, so that a finding can be had again.

use bytes::Bytes;

/// Garbage of every kind: nothing, random bytes, damaged examples, deep nesting, long runs.
pub(crate) fn garbage(seed: u64, examples: &[Bytes]) -> Vec<Vec<u8>> {
    let mut random = Random(seed | 1);
    let mut all = vec![Vec::new(), vec![0; 1 << 16], vec![0xff; 1 << 16]];
    all.extend((0..64).map(|_| random.bytes(200)));
    for opening in [b"[".as_slice(), b"{\"a\":", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b"] {
        all.push(opening.repeat(20_000));
    }
    for example in examples {
        all.extend((0..example.len().min(64)).map(|at| example[..at].to_vec()));
        all.extend((0..32).map(|_| random.damaged(example)));
        all.push(example.repeat(2));
    }
    all
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn bytes(&mut self, len_max: usize) -> Vec<u8> {
        (0..self.below(len_max)).map(|_| self.next() as u8).collect()
    }

    fn damaged(&mut self, example: &[u8]) -> Vec<u8> {
        let mut bytes = example.to_vec();
        for _ in 0..=self.below(3) {
            let at = self.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = self.next() as u8;
            }
        }
        bytes
    }
}
