"""scripts/install.sh below a directory: what it puts where, and that it takes away that and no more. The Python it is
given stands for one that needs no network; what pip makes of the package is in test_package.py."""

import os
import re
import shutil
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "scripts" / "install.sh"
COMMANDS = ("mtactl", "mtad", "mtad-mailq", "mtad-newaliases", "mtad-sendmail")
SERVICES = ("mtad.service", "mtad-backup.service", "mtad-backup.timer")

# `-m venv DIR` copies it there; its pip "installs" commands that say how they were called, and fails when told to.
PYTHON = """#!/bin/sh
here=${0%/*}
case "$*" in
*"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo home >"$3/pyvenv.cfg" ;;
*" wheel "*)
    [ -z "$FAKE_FAILS" ] || { echo "no such package" >&2; exit 1; }
    while [ "$1" != -w ]; do shift; done
    mkdir -p "$2" && touch "$2/a.whl" ;;
*"install --no-index"*)
    for name in COMMANDS; do
        printf '#!/bin/sh\\n[ -z "$FAKE_LOG" ] || echo "$0 $*" >>"$FAKE_LOG"\\n' >"$here/$name"
        chmod 755 "$here/$name"
    done
    share=$here/../share
    mkdir -p "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
    cp -r "REPOSITORY/man" "$share/man"
    cp "REPOSITORY/completions/mtactl.bash" "$share/bash-completion/completions/mtactl"
    cp "REPOSITORY/completions/_mtactl" "$share/zsh/site-functions/"
    cp "REPOSITORY/completions/mtactl.fish" "$share/fish/vendor_completions.d/" ;;
-c*) echo "3.11.0 $0" ;;
esac
""".replace("COMMANDS", " ".join(COMMANDS)).replace("REPOSITORY", str(REPOSITORY))


class Host:
    def __init__(self, base: Path) -> None:
        self.base, self.root, self.python = base, base / "root", base / "python3"

    def install(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SCRIPT, "--system-root", self.root, "--python", self.python, *words],
            capture_output=True, text=True, timeout=60, check=False, env=os.environ | env,
        )  # fmt: skip

    def tree(self) -> dict[str, str]:
        """Each path, with what it is; but for what systemd-sysusers and systemd-tmpfiles make."""
        kept = ("etc/mtad", "var", "run", "etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/.pwd.lock")
        found = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if not any(name.rstrip("-") == one or name.startswith(f"{one}/") for one in kept):
                found[name] = (
                    f"-> {os.readlink(path)}" if path.is_symlink() else "dir" if path.is_dir() else path.read_text()
                )
        return found

    def inside(self, path: str) -> Path:
        """Where an absolute path leads on this host, links followed by hand: they are of this host, not of ours."""
        here = self.root
        parts = [*Path(path).parts[1:]]
        while parts:
            here = here / parts.pop(0)
            if here.is_symlink():
                target = Path(os.readlink(here))
                parts = [*(target.parts[1:] if target.is_absolute() else target.parts), *parts]
                here = self.root if target.is_absolute() else here.parent
        return here


def made(base: Path) -> Host:
    host = Host(base)
    for name in ("etc/fail2ban/filter.d", "etc/fail2ban/jail.d", "etc/systemd/system", "usr/local/bin"):
        (host.root / name).mkdir(parents=True)
    host.python.write_text(PYTHON)
    host.python.chmod(0o755)
    return host


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Host, dict[str, str], str]:
    """An installation, the tree before it, and what was said."""
    host = made(tmp_path_factory.mktemp("install") / "host")
    before = host.tree()
    done = host.install()
    assert (done.returncode, done.stderr) == (0, "")
    return host, before, done.stdout


@pytest.fixture
def host(template: tuple[Host, dict[str, str], str], tmp_path: Path) -> Host:
    """A copy of it."""
    shutil.copytree(template[0].base, tmp_path / "host", symlinks=True)
    return Host(tmp_path / "host")


def test_what_is_put_where(template: tuple[Host, dict[str, str], str]) -> None:
    host, before, said = template
    now = host.tree()
    files = {name for name in now.keys() - before.keys() if now[name] != "dir" and not name.startswith("opt/mtad/")}
    assert files == {
        *(f"usr/local/bin/{name}" for name in COMMANDS),
        *(f"etc/systemd/system/{name}" for name in SERVICES),
        *(f"etc/{name}/mtad.conf" for name in ("sysusers.d", "tmpfiles.d", "fail2ban/filter.d", "fail2ban/jail.d")),
        *(f"usr/local/share/man/{page.relative_to(REPOSITORY / 'man')}" for page in (REPOSITORY / "man").glob("*/*")),
        "usr/local/share/bash-completion/completions/mtactl",
        "usr/local/share/zsh/site-functions/_mtactl",
        "usr/local/share/fish/vendor_completions.d/mtactl.fish",
    }
    for name in files:
        assert host.inside(f"/{name}").is_file(), name
    for line in said.splitlines():
        assert re.match(r"\w+ +\S", line)
        assert str(host.root) not in line.removeprefix(f"python       3.11.0 {host.python}")


def test_what_the_units_start_is_there(template: tuple[Host, dict[str, str], str]) -> None:
    host = template[0]
    for unit in SERVICES[:2]:
        (program,) = re.findall(
            r"^ExecStart=(\S+)", (host.root / "etc/systemd/system" / unit).read_text(), re.MULTILINE
        )
        assert os.access(host.inside(program), os.X_OK), program


def test_backups_are_made_by_the_mtactl_beside_them(host: Host) -> None:
    """As mtad-backup.service starts it: of this prefix, whatever PATH has."""
    target = host.base / "backups"
    script = host.inside("/opt/mtad/scripts/backup.sh")
    log = host.base / "log"
    done = subprocess.run(
        [script, target], capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": "/usr/bin:/bin", "FAKE_LOG": str(log)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    called = [line for line in log.read_text().splitlines() if " backup " in line]
    assert [line.split()[1:3] for line in called] == [["backup", "create"], ["backup", "verify"], ["backup", "prune"]]
    assert {Path(line.split()[0]).resolve() for line in called} == {host.inside("/opt/mtad/bin/mtactl")}


def test_removal_takes_what_was_put_and_no_more(template: tuple[Host, dict[str, str], str], host: Host) -> None:
    (host.root / "etc/mtad").mkdir(exist_ok=True, parents=True)
    mine = [host.root / "etc/mtad/mtad.toml", host.root / "var/lib/mtad/mta.db", host.root / "usr/local/share/mine"]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    before = host.tree()
    assert host.install("--remove", "--dry-run").returncode == 0
    assert host.tree() == before
    done = host.install("--remove")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(path.read_text() == "mine" for path in mine)
    mine[2].unlink()
    mine[2].parent.rmdir()  # the script made it, and left it for what was put there since
    left = host.tree()
    assert left.pop("opt", "dir") == "dir"
    assert left == template[1]
    assert "to do" in host.install("--remove").stdout


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    host = made(tmp_path / "host")
    before = sorted(host.base.rglob("*"))
    done = host.install("--dry-run", "--sockets")
    assert done.returncode == 0
    assert sorted(host.base.rglob("*")) == before
    for path in ("/etc/systemd/system/mtad.socket", "/etc/sysusers.d/mtad.conf", "/opt/mtad/current"):
        assert f" {path}" in done.stdout
    assert [line for line in done.stdout.splitlines() if not line.startswith("would ")] == []


def test_an_upgrade_swaps_and_keeps_what_is_not_its_own(host: Host) -> None:
    old = os.readlink(host.root / "opt/mtad/current")
    os.rename(host.root / "opt/mtad" / old, host.root / "opt/mtad/releases/0.0.1")
    old = "releases/0.0.1"
    (host.root / "opt/mtad/current").unlink()
    (host.root / "opt/mtad/current").symlink_to(old)
    unit = host.root / "etc/systemd/system/mtad.service"
    unit.write_text("changed here")
    foreign = host.root / "etc/systemd/system/mtad.socket"
    foreign.write_text("was here")

    before = host.tree()
    done = host.install("--sockets", FAKE_FAILS="1")
    assert done.returncode == 73
    assert "no such package" in done.stderr
    assert host.tree() == before

    done = host.install("--sockets")
    assert (done.returncode, done.stderr) == (0, "")
    new = os.readlink(host.root / "opt/mtad/current")
    assert new != old
    assert {path.name for path in (host.root / "opt/mtad/releases").iterdir()} == {Path(old).name, Path(new).name}
    assert (unit.read_text(), foreign.read_text()) == ("changed here", "was here")
    left = [line.split()[1].rstrip(":") for line in done.stdout.splitlines() if line.startswith("left ")]
    assert left == ["/etc/systemd/system/mtad.service", "/etc/systemd/system/mtad.socket"]

    assert host.install("--remove").returncode == 0
    assert (unit.read_text(), foreign.read_text()) == ("changed here", "was here")
    assert not (host.root / "etc/systemd/system/mtad-submit.socket").exists()


def test_it_is_not_removed_under_sendmail(host: Host) -> None:
    (host.root / "usr/sbin").mkdir()
    (host.root / "usr/sbin/sendmail").symlink_to("/usr/local/bin/mtad-sendmail")
    before = host.tree()
    done = host.install("--remove")
    assert (done.returncode, host.tree()) == (73, before)
    assert "mtactl install sendmail --undo" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--prefix", "opt/mtad"], 64, "absolute path"),
        (["--prefix", "/opt/my mail"], 64, "absolute path"),
        (["--prefix", "/opt/../etc"], 64, "absolute path"),
        (["--prefix", ""], 64, "needs a value"),
        (["--with", "bzip2"], 64, "argon2 or bcrypt"),
        (["now"], 64, "not known"),
        (["--prefix", "/usr/local"], 73, "move it away"),
        (["--prefix", "/srv/mtad", "--python", "/bin/false"], 73, "Python 3.11"),
    ],
)
def test_wrong_use(template: tuple[Host, dict[str, str], str], words: list[str], code: int, said: str) -> None:
    host = template[0]
    before = host.tree()
    done = host.install(*words)
    assert (done.returncode, len(done.stderr.splitlines())) == (code, 1)
    assert said in done.stderr
    assert host.tree() == before


def test_the_packages_are_those_that_are_needed() -> None:
    """Down to the last: what pyproject.toml asks for with `fast`, and what that asks for; each with its hashes."""
    (text,) = re.findall(r"^runtime=\((.*?)\)$", SCRIPT.read_text(), re.MULTILINE | re.DOTALL)
    listed = set(text.split())
    needed: set[str] = set()
    waiting = [("mtad", "fast")]
    while waiting:
        name, extra = waiting.pop()
        for line in distribution(name).requires or []:
            one = Requirement(line)
            wanted = canonicalize_name(one.name)
            if (one.marker is None or one.marker.evaluate({"extra": extra})) and wanted not in needed:
                needed.add(wanted)
                waiting.append((wanted, ""))
    assert needed <= listed
    assert listed - needed <= {"typing-extensions"}  # of older Pythons than this one
    done = subprocess.run(
        ["bash", "-c", '. "$0"; locked "${@}"', SCRIPT.with_name("_setup.sh"), *sorted(listed)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    heads = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert {line.partition("==")[0] for line in heads} == listed
    assert done.stdout.count("--hash=sha256:") >= len(listed)
