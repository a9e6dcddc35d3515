//! A disk that is full: a real one, with the real program on it.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use sim::{Admin, Caller, Device, DeviceOptions};
use tempfile::TempDir;

use crate::{
    callbacks::hand_in,
    harness::{
        ADMIN_TOKEN, PACKAGE, Process, UMS_APP, UMS_KEY, UMS_SYSTEM, UMS_SYSTEM_KEY, code, message,
        ok, registration, until,
    },
};

/// Size of the disk, in MiB.
const DISK_MIB: u64 = 8;
/// A shared memory file system of at most this size is filled where no disk of one's own can be
/// made, in MiB.
const SHARED_MIB_MAX: u64 = 512;
const PUSH: &str = "/umse/v2/msgPush";

/// A small disk with the data of a server that runs on it.
struct Disk {
    server: Process,
    /// The server's data directory, as this process reaches it.
    data: PathBuf,
    _directory: TempDir,
}

impl Disk {
    /// A disk in memory that only the server has. As root, or as a user who may make namespaces;
    /// elsewhere the machine's own shared memory has to do, if it is small enough to be filled.
    async fn new() -> Disk {
        let program = env!("CARGO_BIN_EXE_pushledger");
        for flags in ["-m", "-Urm"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path();
            let script = format!("mount -t tmpfs -o size={DISK_MIB}m disk \"$0\" && exec \"$@\"");
            let within = |program: &str| {
                let mut command = Command::new("unshare");
                command.args([flags, "sh", "-c", &script]).arg(path).arg(program);
                command
            };
            if !within("true").status().is_ok_and(|status| status.success()) {
                continue;
            }
            let server = Process::run(serve(within(program), path)).await;
            // Another process's mounts are seen through its root.
            let data = path.strip_prefix("/").unwrap();
            let data = PathBuf::from(format!("/proc/{}/root", server.id())).join(data);
            return Disk { server, data, _directory: directory };
        }
        let shared = Path::new("/dev/shm");
        let free = Command::new("df").args(["-Pm", "/dev/shm"]).output().unwrap().stdout;
        let free = String::from_utf8(free).unwrap();
        let free: u64 =
            free.lines().last().unwrap().split_whitespace().nth(3).unwrap().parse().unwrap();
        assert!(
            free <= SHARED_MIB_MAX,
            "A full disk cannot be shown here: neither `unshare -m` nor `unshare -Urm` may mount \
             one, and /dev/shm has {free} MiB, too many to fill. Run this test as root."
        );
        let directory = tempfile::tempdir_in(shared).unwrap();
        let server = Process::run(serve(Command::new(program), directory.path())).await;
        Disk { server, data: directory.path().to_owned(), _directory: directory }
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let mut filler = File::create(self.data.join("filler")).unwrap();
        for size in [64 * 1024, 1024, 1] {
            let bytes = vec![1; size];
            let error = loop {
                if let Err(error) = filler.write_all(&bytes) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.data.join("filler")).unwrap();
    }
}

/// The command that has SQLite's databases on a disk, whatever the other tests run on.
fn serve(mut command: Command, data: &Path) -> Command {
    let database = format!("sqlite:{}", data.display());
    command.arg("serve").arg("--data").arg(data).args(["--listen", "127.0.0.1:0"]);
    command.args(["--database", &database, "--admin-token", ADMIN_TOKEN]);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_pushes_for_now_loses_nothing_and_heals_without_a_restart() {
    let mut disk = Disk::new().await;
    let url = disk.server.url();
    let app = json!({
        "appId": "demo", "name": "Demo",
        "ums": { "appId": UMS_APP, "appKey": UMS_KEY,
                 "systemId": UMS_SYSTEM, "systemKey": UMS_SYSTEM_KEY },
    });
    let admin = Admin::new(&url, ADMIN_TOKEN);
    assert_eq!(admin.post("/admin/v1/apps", Some(&app)).await.unwrap().0, 201);
    let caller = Caller::new(&url, UMS_APP, UMS_KEY).with_client_id("c-1");
    ok(&caller, "/ums/v2/register", &registration("c-1")).await;
    let cloud = Caller::new(&url, UMS_SYSTEM, UMS_SYSTEM_KEY);
    let text = "x".repeat(20_000);
    let body = json!({ "dst": { "type": 0, "Id": ["c-1"] }, "message": { "text": text } });
    let push = async || {
        let reply = cloud.call(PUSH, &body.to_string()).await.unwrap();
        let id = reply.data["msgId"].as_str().map(str::to_owned);
        (reply.ret_code, id)
    };
    let mut accepted = Vec::new();
    for _ in 0..5 {
        accepted.extend(push().await.1);
    }
    assert_eq!(accepted.len(), 5);

    disk.fill();
    let mut refused = 0;
    until("a full disk took everything", async || {
        let (code, id) = push().await;
        match code.as_str() {
            "00000" => accepted.extend(id),
            "A00001" => refused += 1,
            other => panic!("refused with {other}"),
        }
        refused == 20
    })
    .await;
    // Many at once are refused together; what was accepted before can be asked for.
    for (code, id) in futures_util::future::join_all((0..50).map(|_| push())).await {
        assert!(code == "A00001" || id.is_some(), "{code}");
        accepted.extend(id);
    }
    let (mut uplinks, mut number) = (Vec::new(), 0);
    until("a full disk took every uplink", async || {
        number += 1;
        let (id, text) = (format!("gw-{number}"), "x".repeat(10_000));
        let (status, _) = hand_in(&url, &[(&id, "185", &text)]).await;
        assert!(matches!(status, 200 | 503), "{status}");
        uplinks.push((id, text, status));
        status == 503
    })
    .await;
    let unregister = json!({ "appPackage": PACKAGE });
    assert_eq!(code(&caller, "/ums/v2/unreg", &unregister).await, "A00001");
    for id in &accepted {
        ok(&cloud, "/umse/v2/getmsgstat", &json!({ "msgId": id })).await;
    }

    disk.make_room();
    until("it never healed", async || {
        let (code, id) = push().await;
        let healed = code == "00000";
        accepted.extend(id);
        healed
    })
    .await;
    assert!(disk.server.runs());
    // The gateway sends again all that it has no good answer for, and more.
    for (id, text, status) in &uplinks {
        let again = hand_in(&url, &[(id, "185", text)]).await;
        let new = u8::from(*status == 503);
        assert_eq!(again, (200, json!({ "accepted": new, "repeated": 1 - new })), "{id}");
    }
    // Each accepted push comes once, and nothing that was refused.
    let mut device = Device::connect(DeviceOptions::new(&caller, PACKAGE)).await.unwrap();
    let mut came = BTreeSet::new();
    for _ in 0..accepted.len() {
        assert!(came.insert(message(&mut device).await.0));
    }
    let (code, last) = push().await;
    assert_eq!(code, "00000");
    assert_eq!(message(&mut device).await.0, *last.as_ref().unwrap());
    assert_eq!(device.duplicates(), 0);
    assert_eq!(came, accepted.into_iter().collect());
    until("the acknowledgement was never recorded", async || {
        ok(&cloud, "/umse/v2/getmsgstat", &json!({ "msgId": last })).await["status"] == 2
    })
    .await;
    assert!(disk.server.terminate().await);
}
