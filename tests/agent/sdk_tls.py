"""OBShell's own client from PyPI, unpatched, over mutual TLS. Called by tls.rs: ADDRESS PORT ROOT CERTIFICATE KEY."""

import sys

import requests
import urllib3
from obshell import ClientSet
from obshell.auth import PasswordAuth
from obshell.request import ProtocolOptions

ip, port, root, certificate, key = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
urllib3.disable_warnings()


def client(options):
    return ClientSet(ip, port, PasswordAuth(""), protocol_options=options).v1


def refused(options):
    try:
        client(options).get_info()
    except requests.exceptions.ConnectionError:
        return
    raise AssertionError("it was let in")


own = (certificate, key)
for options in [ProtocolOptions.https(root, own), ProtocolOptions.https(False, own)]:
    assert client(options).get_info().identity in ("SINGLE", "MASTER")
assert client(ProtocolOptions.https(root, own)).join_sync(ip, port, "zone1").state == "SUCCEED"
refused(ProtocolOptions.https(root))
refused(ProtocolOptions.https(True, own))
refused(ProtocolOptions.https_insecure())
refused(ProtocolOptions.http())
print("the SDK speaks TLS")
