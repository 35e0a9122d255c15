//! A data directory belongs to its service: nobody else reads or writes it, and no link in it leads to another file.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use tests::fail_point::FailPoints;
use tests::failure::{Context as _, TestResult, ensure};
use tests::lone_host::LoneHost;
use tests::programs::{program, write_script};

/// The entries of a directory, each with its mode.
fn modes(dir: &Path) -> TestResult<Vec<(PathBuf, u32)>> {
    let mut found = vec![(dir.to_owned(), fs::metadata(dir)?.mode() & 0o7777)];
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        found.push((path.clone(), fs::symlink_metadata(&path)?.mode() & 0o7777));
    }
    Ok(found)
}

fn is_private(dir: &Path) -> TestResult<()> {
    let modes = modes(dir)?;
    ensure(modes.len() > 5, || format!("{modes:?}"))?;
    let open = modes.iter().find(|(_, mode)| mode & 0o077 != 0);
    ensure(open.is_none(), || format!("others can use {open:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_umask_nobody_else_reaches_a_data_directory() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("careless");
    let text = format!(
        "#!/bin/sh\numask 0\nexec {} \"$@\"\n",
        program("vdsm-svc")?.display()
    );
    write_script(&script, &text).await?;
    let mut host = LoneHost::start_program(folder.path(), &script).await?;
    let data = host.service.recipe().data_dir.clone();
    is_private(&data)?;
    // Others use the storage root as well; its mode is no wider than that requires.
    let storage = fs::metadata(folder.path().join("storage"))?.permissions().mode() & 0o7777;
    ensure(storage == 0o755, || {
        format!("the storage root has the mode {storage:04o}")
    })?;
    host.service.stop().await?;
    ensure(!data.join("address").exists(), || {
        "where nothing listens any more is still told".to_owned()
    })?;
    for (path, _) in modes(&data)? {
        fs::set_permissions(path, Permissions::from_mode(0o777))?;
    }
    host.service.start(&FailPoints::default()).await?;
    host.serves().await?;
    is_private(&data)?;
    let log = host.service.log_tail(200);
    ensure(log.contains("others could access it (mode 0777)"), || log)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_of_a_data_directory_leads_to_another() -> TestResult<()> {
    let folder = tempfile::tempdir()?;
    let mut host = LoneHost::start_below(folder.path()).await?;
    let data = host.service.recipe().data_dir.clone();
    let mut names: Vec<_> = modes(&data)?.into_iter().skip(1).map(|(path, _)| path).collect();
    names.push(data.join("manifest.new"));
    names.push(data.join("address.new"));
    host.service.stop().await?;
    for path in names {
        let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
        let (kept, victim) = (folder.path().join("kept"), folder.path().join("victim"));
        // The file elsewhere looks like one of ours, so that it could be taken for one.
        let there = path.exists();
        match there {
            true => drop(fs::copy(&path, &victim)?),
            false => fs::write(&victim, "somebody's")?,
        }
        if there {
            fs::rename(&path, &kept)?;
        }
        symlink(&victim, &path)?;
        let (before, mode) = (fs::read(&victim)?, fs::metadata(&victim)?.mode());
        let refused = host.service.start(&FailPoints::default()).await.is_err();
        if refused {
            let log = host.service.log_tail(5);
            ensure(log.contains("symbolic link"), || format!("{name}: {log}"))?;
        } else {
            ensure(
                !fs::symlink_metadata(&path).is_ok_and(|file| file.is_symlink()),
                || format!("{name} is a link still"),
            )?;
            host.service.stop().await?;
        }
        ensure(
            fs::read(&victim)? == before && fs::metadata(&victim)?.mode() == mode,
            || format!("the target of {name} was changed"),
        )?;
        if refused {
            fs::remove_file(&path)?;
            if there {
                fs::rename(&kept, &path)?;
            }
        }
    }
    host.service.start(&FailPoints::default()).await?;
    host.serves().await
}
