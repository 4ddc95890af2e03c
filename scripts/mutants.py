#!/usr/bin/env python3
"""Shows that safety tests can fail: breaks the code as tests/mutations/*.json say and runs the test that must notice.

Usage: scripts/mutants.py [NAME...]     all mutations, or those named

The code is broken in a copy below the target folder, never in the checkout. Tests that need the emulators find them
as scripts/test leaves them in the environment. Exits with 1 if a test does not notice, or fails with sound code.

The copy is built beside the checkout's own build, which spares building its dependencies again. While this runs, the
binaries in the target folder are broken ones; at the end they are the sound ones again.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
COPY = TARGET / "mutants"


def copy_checkout():
    """Copies what git knows or would know; files that did not change keep their times, so that little is rebuilt."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    wanted = {name for name in listed if name and (ROOT / name).is_file()}
    for old in [path for path in COPY.rglob("*") if path.is_file() and str(path.relative_to(COPY)) not in wanted]:
        old.unlink()
    for name in wanted:
        source, copy = ROOT / name, COPY / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            shutil.copy(source, copy)


def cargo(arguments, folder):
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET), "RUST_BACKTRACE": "0"}
    command = ["cargo", arguments[0], "--locked", "--quiet", "--features", "full", *arguments[1:]]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


def sound_code_passes(mutations):
    """Runs the tests with sound code: one that fails anyway shows nothing."""
    for where, kind in [("lib", ["--lib"]), ("it", ["--test", "it"])]:
        tests = sorted({it["test"] for it in mutations if it["where"] == where})
        done = cargo(["test", *kind, "--", "--exact", *tests], COPY) if tests else None
        if done and (done.returncode != 0 or f"running {len(tests)} test" not in done.stdout):
            print(f"tests that fail or are missing with sound code:\n{done.stdout}{done.stderr}")
            return False
    return True


def run(mutation):
    """Returns what is wrong with a mutation, or nothing if its test noticed it."""
    path = COPY / mutation["file"]
    sound = path.read_text()
    if sound.count(mutation["find"]) != 1:
        return f"{mutation['file']} has its text {sound.count(mutation['find'])} times, not once"
    kind = ["--lib"] if mutation["where"] == "lib" else ["--test", "it"]
    path.write_text(sound.replace(mutation["find"], mutation["replace"]))
    try:
        done = cargo(["test", *kind, "--", "--exact", mutation["test"]], COPY)
    finally:
        path.write_text(sound)
    output = done.stdout + done.stderr
    if "error: could not compile" in output:
        return "the broken code does not compile:\n" + output[-2000:]
    if "running 1 test" not in output:
        return f"there is no test {mutation['test']}:\n" + output[-2000:]
    if done.returncode == 0:
        return f"{mutation['test']} did not notice"
    return None if "test result: FAILED" in output else "the test did not end:\n" + output[-2000:]


def main():
    lists = sorted((ROOT / "tests" / "mutations").glob("*.json"))
    mutations = [mutation for path in lists for mutation in json.loads(path.read_text())]
    chosen = [it for it in mutations if not sys.argv[1:] or it["name"] in sys.argv[1:]]
    COPY.mkdir(parents=True, exist_ok=True)
    copy_checkout()
    failures = 0 if sound_code_passes(chosen) else 1
    try:
        for mutation in chosen:
            wrong = run(mutation)
            failures += wrong is not None
            print(f"{'FAILED ' if wrong else 'noticed'} {mutation['name']}: {wrong or mutation['test']}", flush=True)
    finally:
        cargo(["test", "--no-run"], ROOT)
    print(f"mutations: {max(0, len(chosen) - failures)} passed, {failures} failed")
    sys.exit(failures > 0 or not chosen)


if __name__ == "__main__":
    main()
