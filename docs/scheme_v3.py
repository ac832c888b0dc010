"""A client of scheme v3 (docs/scheme-v3.md) in Python. Needs `cryptography` and nothing else.

    agent = Agent("10.0.0.1", 2886, password="…")
    print(agent.call("GET", "/api/v1/ob/info"))
    agent.call("POST", "/api/v1/ob/start", {"scope": {"type": "GLOBAL"}})
"""

import base64
import hashlib
import http.client
import json
import os
import struct
import time
import uuid

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_der_public_key

HEADER = "X-Obpilot-Auth"
SEALED = "application/vnd.obpilot.v3"
LIFETIME_SECS = 60
OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


class Refused(Exception):
    """The agent's refusal."""

    def __init__(self, status, error, data=None):
        super().__init__(f"{error['message']} [{error['errCode']}]")
        self.status, self.code, self.data = status, error["errCode"], data


class NotAnAnswer(Exception):
    """Somebody else has answered, or the answer was cut."""


def _key(secret, about, label):
    salt = hashlib.sha256(about.encode()).digest()
    return AESGCM(HKDF(hashes.SHA256(), 32, salt, label).derive(secret))


class Exchange:
    """The keys of one request and its answer."""

    def __init__(self, secret, key_id, method, target, expires, request_id):
        self.about = f"obpilot v3\n{method} {target}\n{expires}\n{request_id}\n{key_id}"
        self.request = _key(secret, self.about, b"obpilot v3 request")
        self.answer = _key(secret, self.about, b"obpilot v3 answer")

    def _bound(self, part):
        return f"{self.about}\n{part}".encode()

    def seal_claims(self, claims):
        return self.request.encrypt(bytes([1]) + bytes(11), json.dumps(claims).encode(), self._bound("claims"))

    def seal_body(self, body):
        return self.request.encrypt(bytes([2]) + bytes(11), body, self._bound("body"))

    def pieces(self, read):
        """The pieces of an answer; `read(n)` gives exactly n bytes, or fewer at the end."""
        number, is_last = 0, False
        while not is_last:
            head = read(5)
            if len(head) < 5:
                raise NotAnAnswer("the answer was cut off")
            is_last, (length,) = head[0] == 1, struct.unpack(">I", head[1:])
            nonce = bytes([3, 0, 0, 0]) + struct.pack(">Q", number)
            part = f"answer {number} {'last' if is_last else 'more'}"
            try:
                yield self.answer.decrypt(nonce, read(length), self._bound(part))
            except Exception as error:
                raise NotAnAnswer("the answer is not one to this request") from error
            number += 1


class Agent:
    """One agent. `as_agent`: the password is the agent's, not the one of root@sys. `key_id`: no other key is taken."""

    def __init__(self, ip, port, password="", as_agent=False, session_id="", key_id=None):
        self.address, self.insists = (ip, port), key_id
        self.claims = {"as": "agent" if as_agent else "root", "password": password, "sessionId": session_id}
        self.public_key = self.key_id = None

    def read_key(self):
        """Reads the agent's key."""
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        connection.request("GET", "/api/v1/secret")
        scheme = json.loads(connection.getresponse().read())["data"]["authSchemes"]["v3"]
        spki = base64.b64decode(scheme["publicKey"])
        if hashlib.sha256(spki).hexdigest()[:32] != scheme["keyId"]:
            raise NotAnAnswer("the key does not have the id that it is shown with")
        if self.insists not in (None, scheme["keyId"]):
            raise NotAnAnswer(f"it shows key {scheme['keyId']}, and not the one that it should have")
        self.public_key, self.key_id = load_der_public_key(spki), scheme["keyId"]

    def seal(self, method, target, body=None, idempotency_key=None, secret=None, expires=None, request_id=None):
        """Header value, body as it goes on the wire, and what opens the answer."""
        secret = secret or os.urandom(32)
        expires = expires or int(time.time()) + LIFETIME_SECS
        request_id = request_id or str(uuid.uuid4())
        claims = dict(self.claims, hasBody=body is not None)
        if idempotency_key is not None:
            claims["idempotencyKey"] = idempotency_key
        exchange = Exchange(secret, self.key_id, method, target, expires, request_id)
        sealed_key = base64.b64encode(self.public_key.encrypt(secret, OAEP)).decode()
        sealed_claims = base64.b64encode(exchange.seal_claims(claims)).decode()
        value = f"v3;{self.key_id};{expires};{request_id};{sealed_key};{sealed_claims}"
        return value, exchange.seal_body(body) if body is not None else None, exchange

    def send(self, method, target, body=None, **more):
        """Status and envelope."""
        if self.public_key is None:
            self.read_key()
        plain = None if body is None else json.dumps(body).encode()
        value, sealed, exchange = self.seal(method, target, plain, **more)
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        connection.request(method, target, sealed, {HEADER: value})
        response = connection.getresponse()
        if response.getheader("Content-Type") == SEALED:
            envelope = json.loads(b"".join(exchange.pieces(response.read)))
            return envelope["status"], envelope
        if response.status < 400:
            raise NotAnAnswer("a success that is not sealed")
        return response.status, json.loads(response.read())

    def call(self, method, target, body=None, **more):
        """The data of the answer."""
        status, envelope = self.send(method, target, body, **more)
        if status == 401 and envelope["error"]["errCode"] == "Security.Authentication.KeyId.Unknown" and not self.insists:
            self.read_key()
            status, envelope = self.send(method, target, body, **more)
        if status >= 400:
            raise Refused(status, envelope["error"], envelope.get("data"))
        return envelope.get("data")
