use super::*;

fn text(path: &Path) -> String {
    std::fs::read_to_string(path.join(FORMAT_FILE)).unwrap()
}

#[test]
fn a_folder_is_made_and_found_again() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a/b");
    let folder = DataFolder::open(&path).unwrap();
    let id = folder.id().to_owned();
    assert!(folder.free_bytes().unwrap() > 0);
    for name in [LOG_FOLDER, STATE_FOLDER, SNAPSHOTS_FOLDER] {
        assert!(path.join(name).is_dir());
    }
    drop(folder);
    std::fs::write(path.join("added-later"), "x").unwrap();
    assert_eq!(DataFolder::open(&path).unwrap().id(), id);
}

#[test]
fn a_folder_in_use_names_the_process() {
    let temp = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(temp.path()).unwrap();
    let error = DataFolder::open(temp.path()).unwrap_err();
    let wanted = format!("is in use by process {}: ", std::process::id());
    assert!(error.to_string().contains(&wanted), "{error}");
    drop(folder);
    DataFolder::open(temp.path()).unwrap();
}

#[test]
fn a_folder_of_someone_else_is_refused_and_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("thesis.txt"), "x").unwrap();
    let error = DataFolder::open(temp.path()).unwrap_err();
    assert!(matches!(&error, FolderError::Foreign { name, .. } if name == "thesis.txt"), "{error}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn data_without_its_format_file_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    DataFolder::open(temp.path()).unwrap();
    std::fs::write(temp.path().join("log/00000000000000000001.log"), "x").unwrap();
    std::fs::remove_file(temp.path().join(FORMAT_FILE)).unwrap();
    assert!(matches!(DataFolder::open(temp.path()), Err(FolderError::Foreign { .. })));
}

#[test]
fn an_interrupted_creation_is_taken_up() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join(LOG_FOLDER)).unwrap();
    std::fs::write(temp.path().join(FORMAT_FILE_UNFINISHED), "mort").unwrap();
    DataFolder::open(temp.path()).unwrap();
}

#[test]
fn a_newer_or_older_format_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    DataFolder::open(temp.path()).unwrap();
    let ours = text(temp.path());
    std::fs::write(temp.path().join(FORMAT_FILE), ours.replace("version 2", "version 3")).unwrap();
    let error = DataFolder::open(temp.path()).unwrap_err();
    assert!(matches!(error, FolderError::TooNew { version: 3, known: 2, .. }), "{error}");
    std::fs::write(temp.path().join(FORMAT_FILE), ours.replace("version 2", "version 1")).unwrap();
    let error = DataFolder::open(temp.path()).unwrap_err();
    assert!(matches!(error, FolderError::TooOld { version: 1, known: 2, .. }), "{error}");
}

#[test]
fn a_cut_format_file_is_an_error_at_every_length() {
    let temp = tempfile::tempdir().unwrap();
    DataFolder::open(temp.path()).unwrap();
    let whole = text(temp.path());
    for length in 0..whole.len() - 1 {
        std::fs::write(temp.path().join(FORMAT_FILE), &whole[..length]).unwrap();
        let error = DataFolder::open(temp.path()).unwrap_err();
        assert!(matches!(error, FolderError::Damaged { .. }), "{length}: {error}");
    }
}
