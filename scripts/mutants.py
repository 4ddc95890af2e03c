#!/usr/bin/env python3
"""Shows that safety tests can fail: breaks the code as tests/mutations/*.json say and runs the test that must notice.

Usage: scripts/mutants.py [--tested] [NAME...]     all mutations, or those named

The code is broken in copies below the target folder, one for each processor, never in the checkout. Each has a target folder of
its own, in which the dependencies are links to those of the checkout's build, which spares building them again. Sources and targets know
nothing of each other, so that one mutation of each of them is tried in the same build, where a test of its own notices it. Tests that need
the emulators find them as scripts/test leaves them in the environment. Exits with 1 if a test does not notice, or fails with sound code:
that is tried first, unless `--tested` says that all tests have just passed.
"""

import concurrent.futures
import json
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import typing

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
WORKERS = min(os.cpu_count() or 1, 4)

# What is built of the checkout itself, and what cargo writes in place.
OWN = ("tidegate", "libtidegate", "it-", "bootstrap", ".cargo-lock")


class Done(typing.NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    output: str


class Copy:
    """A copy of the checkout, and a target folder for it."""

    def __init__(self, number):
        self.code = TARGET / "mutants" / str(number) / "code"
        self.target = TARGET / "mutants" / str(number) / "target"

    def prepare(self):
        self.copy_checkout()
        shutil.rmtree(self.target, ignore_errors=True)
        for folder, folders, files in os.walk(TARGET / "debug"):
            folders[:] = [name for name in folders if name != "incremental" and not name.startswith(OWN)]
            to = self.target / "debug" / pathlib.Path(folder).relative_to(TARGET / "debug")
            to.mkdir(parents=True)
            for name in files:
                if not name.startswith(OWN):
                    os.link(pathlib.Path(folder) / name, to / name)

    def copy_checkout(self):
        """Copies what git knows or would know."""
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
        shutil.rmtree(self.code, ignore_errors=True)
        for name in listed:
            if name and (ROOT / name).is_file():
                (self.code / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.code / name)
        # What scripts/test installed, which tests start.
        (self.code / ".tools").symlink_to(ROOT / ".tools")

    def cargo(self, arguments):
        environment = {
            **os.environ,
            "CARGO_TARGET_DIR": str(self.target),
            "CARGO_PROFILE_DEV_DEBUG": "0",
            "RUST_BACKTRACE": "0",
        }
        command = ["cargo", arguments[0], "--locked", "--quiet", "--features", "full", *arguments[1:]]
        # No pipe: what broken code leaves running would hold it open.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(command, cwd=self.code, env=environment, stdout=output, stderr=output, timeout=1800)
            output.seek(0)
            return Done(done.returncode, output.read())

    def sound_code_passes(self, mutations):
        """Runs the tests with sound code: one that fails anyway shows nothing."""
        for where, kind in [("lib", ["--lib"]), ("it", ["--test", "it"])]:
            tests = sorted({it["test"] for it in mutations if it["where"] == where})
            done = self.cargo(["test", *kind, "--", "--exact", *tests]) if tests else None
            if done and (done.status != 0 or f"running {len(tests)} test" not in done.output):
                print(f"tests that fail or are missing with sound code:\n{done.output}")
                return False
        return True

    def run(self, batch):
        """Returns what is wrong with each mutation, or nothing for one that its test noticed."""
        wrong, sound = {}, {}
        try:
            for mutation in batch:
                path = self.code / mutation["file"]
                text = path.read_text()
                if text.count(mutation["find"]) == 1:
                    sound.setdefault(path, text)
                    path.write_text(text.replace(mutation["find"], mutation["replace"]))
                else:
                    wrong[mutation["name"]] = f"{mutation['file']} has its text {text.count(mutation['find'])} times, not once"
            for mutation in batch:
                wrong.setdefault(mutation["name"], self.test(mutation))
        finally:
            for path, text in sound.items():
                path.write_text(text)
        return wrong

    def test(self, mutation):
        """Returns what is wrong with a mutation in the code as it is now."""
        kind = ["--lib"] if mutation["where"] == "lib" else ["--test", "it"]
        done = self.cargo(["test", *kind, "--", "--exact", mutation["test"]])
        output = done.output
        if "error: could not compile" in output:
            return "the broken code does not compile:\n" + output[-2000:]
        if "running 1 test" not in output:
            return f"there is no test {mutation['test']}:\n" + output[-2000:]
        if done.status == 0:
            return f"{mutation['test']} did not notice"
        return None if "test result: FAILED" in output else "the test did not end:\n" + output[-2000:]


# What several adapters share: broken, it could be another one's test that notices.
SHARED = ("document", "payload", "sql", "engine", "labels", "refusal")


def adapter_of(mutation):
    """The source or target that a mutation breaks and whose own test must notice it, if there is one."""
    path = re.match(r"src/(sources|targets)/(\w+?)(\.rs|/)", mutation["file"])
    return path and path[2] not in SHARED and re.search(rf"(^|::){path[1]}::{path[2]}::", mutation["test"]) and path.group(1, 2)


def in_batches(mutations):
    """Mutations that can be tried in the same build, together."""
    batches = []
    for mutation in mutations:
        adapter, where = adapter_of(mutation), mutation["where"]
        for batch in batches if adapter else []:
            adapters = [adapter_of(other) for other in batch]
            if None not in adapters and adapter not in adapters and batch[0]["where"] == where:
                batch.append(mutation)
                break
        else:
            batches.append([mutation])
    return batches


def main():
    lists = sorted((ROOT / "tests" / "mutations").glob("*.json"))
    mutations = [mutation for path in lists for mutation in json.loads(path.read_text())]
    names = [it for it in sys.argv[1:] if it != "--tested"]
    chosen = [it for it in mutations if not names or it["name"] in names]
    copies = [Copy(number) for number in range(min(WORKERS, max(1, len(chosen))))]
    free = queue.SimpleQueue()
    for copy in copies:
        copy.prepare()
        free.put(copy)

    def run(batch):
        copy = free.get()
        try:
            return batch, copy.run(batch)
        finally:
            free.put(copy)

    is_sound = "--tested" in sys.argv[1:] or copies[0].sound_code_passes(chosen)
    failures = [] if is_sound else ["tests with sound code"]
    with concurrent.futures.ThreadPoolExecutor(len(copies)) as pool:
        for done in concurrent.futures.as_completed([pool.submit(run, it) for it in in_batches(chosen)]):
            batch, wrong = done.result()
            for mutation in batch:
                why = wrong[mutation["name"]]
                line = f"{mutation['name']}: {why or mutation['test']}"
                failures += [line] if why else []
                print(f"{'FAILED ' if why else 'noticed'} {line}", flush=True)
    for line in failures:
        print(f"FAILED  {line}")
    print(f"mutations: {max(0, len(chosen) - len(failures))} noticed, {len(failures)} failed")
    sys.exit(bool(failures) or not chosen)


if __name__ == "__main__":
    main()
