#!/usr/bin/env python3
"""Shows that safety tests can fail: breaks the code as tests/mutations/*.json say and runs the test that must notice.

Usage: scripts/mutants.py [NAME...]     all mutations, or those named

The code is broken in a copy below the target folder, never in the checkout. Its dependencies are links to those of the checkout's
build, which spares building them again. It is built once, with all mutations in it: a function that some of them break has its body once
for each, a shell script its command, and a file beside the copy names those that are in force. With none in force the tests must pass, or
they would show nothing. One copy for each processor runs them, with that build's executables, in which it puts its own paths. What is no
part of a function's body, or does not compile as such a choice (a constant, a body of an unnamed type), is broken in the text, one build
for each. Sources and targets know nothing of each other, so that one mutation of each of them is tried at once, where a test of its own
notices it. Tests that need servers find them as scripts/test leaves them in the environment. Exits with 1 if a test does not notice, or
fails with sound code.
"""

import concurrent.futures
import itertools
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

import tree_sitter
import tree_sitter_rust

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
WORKERS = min(os.cpu_count() or 1, 4)
# How many mutations of sources and targets are tried at once in one copy.
AT_ONCE = 4
RUST = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))

# What is built of the checkout itself, and what cargo writes in place.
OWN = ("tidegate", "libtidegate", "it-", "bootstrap", ".cargo-lock")

# Added to the library: whether a mutation is in force.
SWITCH = """
#[doc(hidden)]
pub fn is_broken(name: &str) -> bool {
    static IN_FORCE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| std::fs::read_to_string("%s").unwrap_or_default());
    IN_FORCE.lines().any(|it| it == name)
}
"""


class Done(typing.NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    output: str


def run(command, folder, **environment):
    """Runs a command to its end, for half an hour at most."""
    # No pipe: what broken code leaves running would hold it open.
    with tempfile.TemporaryFile("w+") as output:
        env = {**os.environ, "RUST_BACKTRACE": "0", **environment}
        try:
            status = subprocess.run(command, cwd=folder, env=env, stdout=output, stderr=output, timeout=1800).returncode
        except subprocess.TimeoutExpired:
            status = "no end"
        output.seek(0)
        return Done(status, output.read())


def body_around(tree, begin, end):
    """Returns where the body of the function around some text begins and ends, if there is one."""
    node = tree.root_node.descendant_for_byte_range(begin, end)
    while node and node.type != "function_item":
        node = node.parent
    if node is None:
        return None
    body = node.child_by_field_name("body")
    is_const = re.search(rb"\bconst\b", node.text.split(b"fn", 1)[0])
    is_inside = body.start_byte < begin and end < body.end_byte
    return None if is_const or not is_inside else (body.start_byte, body.end_byte)


def with_choices(text, mutations):
    """Returns a file's text in which each mutation is a choice, and the lines of each."""
    code, bodies = text.encode(), {}
    tree = RUST.parse(code)
    for mutation in mutations:
        begin = code.index(mutation["find"].encode())
        body = body_around(tree, begin, begin + len(mutation["find"].encode()))
        if body:
            bodies.setdefault(body, []).append(mutation)
    # Of two bodies, one in the other, the outer one is chosen.
    outermost = {}
    for body, some in bodies.items():
        outer = min((it for it in bodies if it[0] <= body[0] and body[1] <= it[1]), key=lambda it: it[0])
        outermost.setdefault(outer, []).extend(some)
    made, lines, at = [], {}, 0
    for (begin, end), some in sorted(outermost.items()):
        made.append(code[at:begin].decode() + "{ ")
        body = code[begin:end].decode()
        for mutation in some:
            first = "".join(made).count("\n") + 1
            broken = body.replace(mutation["find"], mutation["replace"])
            made.append(f'if ::tidegate::is_broken("{mutation["name"]}") {broken} else ')
            lines[mutation["name"]] = range(first, "".join(made).count("\n") + 2)
        made.append(body + " }")
        at = end
    made.append(code[at:].decode())
    return "".join(made), lines


def with_shell_choices(text, mutations, in_force):
    """The same of a shell script, whose mutations break one command each."""
    for command in {it["find"] for it in mutations}:
        choices = ""
        for it in [it for it in mutations if it["find"] == command]:
            # Without another process: there may be none.
            is_broken = f"""while read -r it && [ "$it" != {it["name"]} ]; do :; done <'{in_force}'; [ "$it" = {it["name"]} ]"""
            choices += f"if {is_broken}; then {it['replace']}; el"
        text = text.replace(command, f"{{ {choices}se {command}; fi; }}")
    return text, {it["name"]: range(0) for it in mutations}


class Copy:
    """A copy of the checkout, and of what is built of it."""

    def __init__(self, number):
        self.home = TARGET / "mutants" / str(number)
        self.code = self.home / "code"
        self.target = self.home / "target"
        self.in_force = self.home / "in-force"
        self.executables = {}

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

    def test(self, where, *tests):
        return run([self.executables["it" if where == "it" else "tidegate"], "--exact", *tests], self.code)

    def choose(self, *mutations):
        self.in_force.write_text("".join(it["name"] + "\n" for it in mutations))


class Builder(Copy):
    """The copy in which cargo builds, with the dependencies of the checkout's own build."""

    def link_dependencies(self):
        shutil.rmtree(self.target, ignore_errors=True)
        for folder, folders, files in os.walk(TARGET / "debug"):
            folders[:] = [name for name in folders if name != "incremental" and not name.startswith(OWN)]
            to = self.target / "debug" / pathlib.Path(folder).relative_to(TARGET / "debug")
            to.mkdir(parents=True)
            for name in files:
                if not name.startswith(OWN):
                    os.link(pathlib.Path(folder) / name, to / name)

    def write_choices(self, mutations):
        """Writes all mutations into the code as choices; returns the lines of each, by file."""
        lines = {}
        for name in {it["file"] for it in mutations}:
            text, some = (ROOT / name).read_text(), [it for it in mutations if it["file"] == name]
            if name.endswith(".rs"):
                text, lines[name] = with_choices(text, some)
            else:
                text, lines[name] = with_shell_choices(text, some, self.in_force)
            (self.code / name).write_text(text)
        # The library knows itself by its own name only so.
        library = self.code / "src" / "lib.rs"
        head = "extern crate self as tidegate;\n"
        sound = library.read_text()
        inner = re.match(r"(?:\s*(?://![^\n]*|#!\[[^\n]*))*\n", sound).end()
        library.write_text(sound[:inner] + head + sound[inner:] + SWITCH % self.in_force)
        return lines

    def build(self, *what):
        """Builds tests; returns the errors, or nothing where it succeeds."""
        command = ["cargo", "test", "--locked", "--quiet", "--features", "full", "--no-run", "--message-format=json", *what]
        done = run(command, self.code, CARGO_TARGET_DIR=str(self.target), CARGO_PROFILE_DEV_DEBUG="0")
        messages = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
        for it in messages:
            if it.get("executable") and it["profile"]["test"]:
                self.executables["it" if it["target"]["kind"] == ["test"] else it["target"]["name"]] = it["executable"]
        errors = [it["message"] for it in messages if it["reason"] == "compiler-message" and it["message"]["level"] == "error"]
        if done.status != 0 and not errors:
            sys.exit(f"the copy cannot be built:\n{done.output[-4000:]}")
        return errors

    def build_with_choices(self, mutations):
        """Builds with as many mutations as compile as choices, and returns those."""
        chosen = mutations
        while True:
            self.copy_checkout()
            lines = self.write_choices(chosen)
            errors = self.build("--lib", "--test", "it")
            if not errors:
                return [it for it in chosen if it["name"] in lines[it["file"]]]
            places = [(span["file_name"], span["line_start"]) for it in errors for span in it["spans"] if span["is_primary"]]
            faulty = {name for file, line in places for name, range_ in lines.get(file, {}).items() if line in range_}
            if not faulty:
                sys.exit(f"the copy cannot be built: errors at {places}")
            print(f"no choice, but a build of its own: {' '.join(sorted(faulty))}", flush=True)
            chosen = [it for it in chosen if it["name"] not in faulty]

    def try_text(self, mutation):
        """Returns what is wrong with a mutation that is broken in the text, or nothing if its test noticed."""
        self.choose()
        path = self.code / mutation["file"]
        text = path.read_text()
        try:
            path.write_text(text.replace(mutation["find"], mutation["replace"]))
            errors = self.build(*(["--lib"] if mutation["where"] == "lib" else ["--test", "it"]))
        finally:
            path.write_text(text)
        if errors:
            return {mutation["name"]: "the broken code does not compile:\n" + "\n".join(it["rendered"] for it in errors)[-2000:]}
        return {mutation["name"]: why_not(mutation, self.test(mutation["where"], mutation["test"]))}


class Runner(Copy):
    """A copy in which tests run, with what the builder has built."""

    def take(self, builder):
        """Copies the builder's executables, in which all paths below its home become those below this one's."""
        self.copy_checkout()
        old, new = os.fsencode(builder.home), os.fsencode(self.home)
        if len(old) != len(new):
            sys.exit(f"{old} and {new} are not of one length")
        shutil.rmtree(self.target, ignore_errors=True)
        made = set(map(pathlib.Path, builder.executables.values()))
        for path in made | {it for it in (builder.target / "debug").iterdir() if it.is_file() and os.access(it, os.X_OK)}:
            to = self.target / path.relative_to(builder.target)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes().replace(old, new))
            to.chmod(0o755)
        self.executables = {name: path.replace(os.fsdecode(old), os.fsdecode(new)) for name, path in builder.executables.items()}

    def sound_code_passes(self, mutations):
        """Runs the tests with sound code: one that fails anyway shows nothing."""
        self.choose()
        for where in ["lib", "it"]:
            tests = sorted({it["test"] for it in mutations if it["where"] == where})
            done = self.test(where, *tests) if tests else None
            if done and (done.status != 0 or f"running {len(tests)} test" not in done.output):
                print(f"tests that fail or are missing with sound code:\n{done.output}")
                return False
        return True

    def try_choices(self, batch):
        """Returns what is wrong with each mutation of a batch, or nothing for one that its test noticed."""
        self.choose(*batch)
        with concurrent.futures.ThreadPoolExecutor(len(batch)) as pool:
            done = pool.map(lambda it: self.test(it["where"], it["test"]), batch)
            return {it["name"]: why_not(it, how) for it, how in zip(batch, done)}


def why_not(mutation, done):
    """Returns what is wrong with a mutation, by how its test ended, or nothing if it noticed."""
    if "running 1 test" not in done.output:
        return f"there is no test {mutation['test']}:\n" + done.output[-2000:]
    if done.status == 0:
        return f"{mutation['test']} did not notice"
    return None if "test result: FAILED" in done.output else "the test did not end:\n" + done.output[-2000:]


# What several adapters share: broken, it could be another one's test that notices.
SHARED = ("document", "payload", "sql", "engine", "labels", "refusal")


def adapter_of(mutation):
    """The source or target that a mutation breaks and whose own test must notice it, if there is one."""
    path = re.match(r"src/(sources|targets)/(\w+?)(\.rs|/)", mutation["file"])
    return path and path[2] not in SHARED and re.search(rf"(^|::){path[1]}::{path[2]}::", mutation["test"]) and path.group(1, 2)


def in_batches(mutations):
    """Mutations that can be tried at once."""
    batches = []
    for mutation in mutations:
        adapter = adapter_of(mutation)
        for batch in batches if adapter else []:
            adapters = [adapter_of(other) for other in batch]
            if None not in adapters and adapter not in adapters and len(batch) < AT_ONCE:
                batch.append(mutation)
                break
        else:
            batches.append([mutation])
    return batches


def all_mutations():
    lists = sorted((ROOT / "tests" / "mutations").glob("*.json"))
    mutations = [mutation for path in lists for mutation in json.loads(path.read_text())]
    for it in mutations:
        times = (ROOT / it["file"]).read_text().count(it["find"])
        if times != 1:
            sys.exit(f"{it['name']}: {it['file']} has its text {times} times, not once")
    return mutations


def main():
    names = sys.argv[1:]
    wanted = [it for it in all_mutations() if not names or it["name"] in names]
    builder, runners = Builder(0), [Runner(1 + number) for number in range(min(WORKERS, max(1, len(wanted))))]
    builder.link_dependencies()
    choices = builder.build_with_choices(wanted)
    free = queue.SimpleQueue()
    for runner in runners:
        runner.take(builder)
        free.put(runner)

    def tried(batch):
        runner = free.get()
        try:
            return [runner.try_choices(batch)]
        finally:
            free.put(runner)

    failures, count = [], 0
    if not runners[0].sound_code_passes(wanted):
        failures.append("tests with sound code")
    with concurrent.futures.ThreadPoolExecutor(len(runners)) as pool:
        # There is one builder, so that one thread has all of those, while the others go on.
        works = [pool.submit(lambda: [builder.try_text(it) for it in wanted if it not in choices])]
        works += [pool.submit(tried, it) for it in in_batches(choices)]
        results = itertools.chain.from_iterable(it.result() for it in concurrent.futures.as_completed(works))
        for name, why in itertools.chain.from_iterable(it.items() for it in results):
            count += not why
            failures += [f"{name}: {why}"] if why else []
            print(f"{'FAILED ' if why else 'noticed'} {name}{f': {why}' if why else ''}", flush=True)
    for line in failures:
        print(f"FAILED  {line}")
    print(f"mutations: {count} noticed, {len(failures)} failed")
    sys.exit(bool(failures) or not wanted)


if __name__ == "__main__":
    main()
