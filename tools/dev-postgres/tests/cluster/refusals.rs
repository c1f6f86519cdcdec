//! A start that fails says why, and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use dev_postgres::Error;

use super::{new_dir, options, start};

#[test]
fn an_unsuitable_directory_is_refused_with_the_remedy() {
    let dir = new_dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = dev_postgres::start(&options(dir.path())).unwrap_err().to_string();
    assert!(error.contains("chmod 700") && error.contains("DEV_POSTGRES_DIR"), "{error}");

    let others = new_dir();
    fs::write(others.path().join("thesis.txt"), "years of work").unwrap();
    fs::set_permissions(others.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = dev_postgres::start(&options(others.path())).unwrap_err().to_string();
    assert!(error.contains("it holds other files") && error.contains("DEV_POSTGRES_DIR"), "{error}");
    assert!(!error.contains("chmod") && !error.contains("remove") && !error.contains("empty it"), "{error}");

    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    let error = dev_postgres::start(&options(&link)).unwrap_err().to_string();
    assert!(error.contains("not a directory"), "{error}");

    // Root runs PostgreSQL as another user, and that user can't enter the parent directory.
    if rustix::process::geteuid().is_root() {
        let home = new_dir();
        let error = dev_postgres::start(&options(&home.path().join("cluster"))).unwrap_err().to_string();
        assert!(error.contains("chmod a+x") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_server_that_cannot_start_gives_the_reason_on_one_line() {
    let dir = new_dir();
    start(dir.path()).stop();
    let settings = dir.path().join("data/postgresql.auto.conf");
    fs::write(settings, "shared_buffers = '1 parsec'\n").unwrap();
    let error = dev_postgres::start(&options(dir.path())).unwrap_err().to_string();
    assert!(error.contains("shared_buffers") && error.contains("DATABASE_URL"), "{error}");
    assert!(!error.contains('\n'), "{error}");

    fs::write(dir.path().join("data/PG_VERSION"), "7\n").unwrap();
    let error = dev_postgres::start(&options(dir.path())).unwrap_err();
    assert!(matches!(error, Error::WrongVersion { made_by: 7, .. }), "{error}");
}
