"""What the scripts that drive the SDK share: ADDRESS PORT MYSQL_PORT PASSWORD from the command line, and what is expected."""

import sys

from obshell import ClientSet, OBShellHandleError
from obshell.auth import PasswordAuth

HOST, PORT, MYSQL_PORT, PASSWORD = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]


def client(password, agent_password=None):
    return ClientSet(HOST, PORT, PasswordAuth(password, agent_password=agent_password)).v1


def expect(what, got, wanted):
    if got != wanted:
        sys.exit(f"{what}: {got!r} instead of {wanted!r}")
    print(f"{what}: {got}")


def expect_error(what, kind, call):
    """The exception of the SDK that a caller would catch."""
    try:
        call()
    except kind as error:
        print(f"{what}: {kind.__name__}: {error}")
        return error
    sys.exit(f"{what}: went through")


def expect_refused(what, call, err_code=None):
    error = expect_error(what, OBShellHandleError, call)
    if err_code is not None:
        expect(what, error.err_code, err_code)
    return error
