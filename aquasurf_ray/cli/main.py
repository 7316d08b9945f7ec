"""The `aquasurf` command itself: its commands in panels, and the exit codes of errors.

Exit codes: 0 done, 1 the work failed, 2 bad use. An error is one or two lines on standard error; a traceback means a
defect of this program. Nothing heavy is imported here: a command's file is loaded when the command is called, and
imports what it needs when it runs.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from aquasurf_ray.cli.terminal.commands import argument_name

# Typer carries a copy of Click under a private name; its base exception can be had through a public one.
ClickException: type[Exception] = typer.BadParameter.__mro__[2]

DONE, FAILED, BAD_USE = 0, 1, 2
STOPPED_BY_SIGNAL = 130
WITH_WORK_AT_EXIT = {"ray", "torch"}  # packages whose exit handlers have something to end
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk that output goes to has no room
PASSWORD_IN_URL = re.compile(r"postgres\S*://([^/@\s]*:[^/@\s]+@|\S*[?&](ssl)?password=)")

PANELS = {
    "Runs": ("search", "resume", "enqueue", "stop", "evaluate", "confirm", "transfer", "task"),
    "Results": ("status", "top", "compare", "report", "watch", "plot", "note"),
    "Functions": ("find", "show", "explain", "use", "space", "zoo", "spectrum"),
    "Database": ("query", "export", "snapshot", "merge", "roles"),
    "Cluster": ("submit", "job", "doctor"),
    "Benchmarks": ("benchmark", "import"),
}
FILES = {"import": "import_file"}  # the others have the command's name


class LazyCommands(Mapping[str, Any]):
    """The commands by name; the file of each is loaded when it is looked up."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            definition = self.definition(name)
            try:
                self._built[name] = get_command(definition)
            except KeyError as error:  # which would be taken for an unknown name
                raise RuntimeError(f"command {name} cannot be built: KeyError {error}") from error
            self._built[name].name = name  # a group of several commands has none
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return (name for names in PANELS.values() for name in names)

    def __len__(self) -> int:
        return sum(map(len, PANELS.values()))

    def definition(self, name: str) -> Any:
        """Return the `Commands` of a command's file."""
        if name not in set(self):
            raise KeyError(name)
        return importlib.import_module(f"aquasurf_ray.cli.{FILES.get(name, name)}").app


class Aquasurf(TyperGroup):
    """The group of all commands, which loads only what is asked for, since help is to come at once."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.lazy = LazyCommands()
        self.commands = self.lazy  # type: ignore[assignment]  # only ever read

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands in their panels."""
        width = max(map(len, self.lazy))
        for panel, names in PANELS.items():
            with formatter.section(panel):
                formatter.write_dl([(f"{name:<{width}}", self.lazy.definition(name).summary) for name in names])


app = typer.Typer(
    cls=Aquasurf,
    name="aquasurf",
    help="Find a better activation function for your network.",
    epilog="Start with: aquasurf search digits",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"aquasurf-ray {version('aquasurf-ray')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find a better activation function for your network."""


def run() -> None:
    """Run the console script `aquasurf`."""
    # Collect garbage after a hundred thousand new objects instead of hundreds: imports make many objects, all of which
    # stay, and to look through them again and again takes a third of the time of importing PyTorch and Ray.
    gc.set_threshold(100_000, 20, 10)
    code = main(sys.argv[1:])
    # A thread may still have something to write.
    if not WITH_WORK_AT_EXIT & sys.modules.keys() and threading.active_count() == 1 and _flushed():
        # Freeing every object first takes a fifth of the time of a command that only reads.
        os._exit(code)
    sys.exit(code)


def _flushed() -> bool:
    """Write what is left to print, such as lines before an error; False if that fails, which Python reports at exit."""
    try:
        _flush()
    except OSError:
        return False
    return True


def _flush() -> None:
    if sys.stdout is not None:  # a daemon has none
        sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    _warn_of_passwords(arguments)
    try:
        # In standalone mode, Typer would print errors its own way and exit the process.
        code = app(arguments or ["--help"], prog_name="aquasurf", standalone_mode=False)
        _flush()  # here, where errors of writing are handled
        if code == STOPPED_BY_SIGNAL:  # Typer's answer to Ctrl-C
            return _print_error("stopped", STOPPED_BY_SIGNAL)
        return code if isinstance(code, int) else DONE
    except ClickException as error:
        return _print_error(_message(error), BAD_USE, hint=_usage_hint(error))
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        return _print_error("stopped", STOPPED_BY_SIGNAL)
    except KeyboardInterrupt:
        return _print_error("stopped", STOPPED_BY_SIGNAL)
    except BrokenPipeError:
        # The reader has gone, as `head` does; Python's own flush at exit must not fail on the pipe, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        if error.errno not in FULL:
            raise
        where = f"'{error.filename}'" if error.filename else "the output"
        return _print_error(f"{where} cannot be written: {error.strerror}; make room there", FAILED)
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        return _print_error(str(error), code, hint="\n".join(getattr(error, "__notes__", ())))


def _warn_of_passwords(arguments: list[str]) -> None:
    """Warn of passwords on the command line, which every user of the machine can read while the command runs."""
    if any(PASSWORD_IN_URL.search(argument) for argument in arguments):
        text = "a password on the command line is visible to everybody who can list processes"
        print(f"aquasurf: {text}; put the URL into AQUASURF_STORE, or the password into ~/.pgpass", file=sys.stderr)


def exit_code(error: Exception) -> int | None:
    """Return the exit code for an error that people can do something about; None for a defect of the program.

    A StoreError that gets here comes from before any work was begun: the driver turns one in mid-run into RunFailed.
    """
    # Imported here, so that a command that succeeds does not load them.
    from aquasurf_ray.analysis.errors import AnalysisError
    from aquasurf_ray.driver.errors import BadUse, DriverError

    if isinstance(error, (BadUse, AnalysisError)):
        return BAD_USE
    from aquasurf_ray.store.errors import BadRecord, LeaseLost, StoreBusy, StoreError, StoreFull

    # The program itself made the record, so this is a defect of it.
    if isinstance(error, BadRecord):
        return None
    if isinstance(error, (DriverError, LeaseLost, StoreBusy, StoreFull)):
        return FAILED
    return BAD_USE if isinstance(error, StoreError) else None


def _print_error(text: str, code: int, hint: str = "") -> int:
    lines = "; ".join(" ".join(line.split()) for line in text.splitlines() if line.strip())
    print(f"aquasurf: {lines}", file=sys.stderr)
    if hint:
        print(hint, file=sys.stderr)
    return code


def _message(error: Any) -> str:
    """Return the text on one line: Click's own, or where a value is wrong, one with the option, rule and value."""
    cause = error.__cause__
    if hasattr(cause, "errors") and getattr(error, "param", None) is not None:  # Pydantic's, which checked the value
        from aquasurf_ray.driver.settings.setting_problems import value_text

        parameter = error.param
        name = argument_name(parameter) if parameter.param_type_name == "argument" else parameter.opts[-1]
        return value_text(name, cause.errors()[0])
    return " ".join(str(error.format_message()).split())


def _usage_hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"help: {context.command_path} --help" if context else ""
