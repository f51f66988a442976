"""The half of the probe that runs in the probed interpreter: one TLS handshake with itself, in memory.

`SCRIPT` is Python 3.6 source, run with `-I -c`. It gets the path of a file with `PUBLIC_TEST_PEM` and prints both
directions' bytes. Certificate and host name verification are on, as in any program.
"""

from __future__ import annotations

from pqtls.openssl.child import MARK

HOST = "probe.pqtls.invalid"

# PUBLIC TEST MATERIAL. This key is published in the source of pqtls and protects nothing: the probe's client
# trusts it for one handshake with its own process, and nothing else ever trusts it.
# EC P-256, self-signed, valid from 2000 to the end of 2199, for probe.pqtls.invalid alone.
PUBLIC_TEST_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIB8jCCAZigAwIBAgIBATAKBggqhkjOPQQDAjAyMTAwLgYDVQQDDCdwcXRscyBw
dWJsaWMgdGVzdCBrZXksIHByb3RlY3RzIG5vdGhpbmcwIBcNMDAwMTAxMDAwMDAw
WhgPMjE5OTEyMzEyMzU5NTlaMDIxMDAuBgNVBAMMJ3BxdGxzIHB1YmxpYyB0ZXN0
IGtleSwgcHJvdGVjdHMgbm90aGluZzBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IA
BIltpzNklKplDKc6jynbBD9eAs8wcdqExwlm7xvgDO8vR5RyI+tRPnHwaM/V7hSh
+wixWNhv21W0VBsSy6n15LSjgZwwgZkwEgYDVR0TAQH/BAgwBgEB/wIBADAOBgNV
HQ8BAf8EBAMCAoQwEwYDVR0lBAwwCgYIKwYBBQUHAwEwHgYDVR0RBBcwFYITcHJv
YmUucHF0bHMuaW52YWxpZDAdBgNVHQ4EFgQUj33/RgKA1RmnSKBTKZFtyJS0pu4w
HwYDVR0jBBgwFoAUj33/RgKA1RmnSKBTKZFtyJS0pu4wCgYIKoZIzj0EAwIDSAAw
RQIgQTnMwmqh5CeQYYI/rCZIXA5wrd/Q8QQJIXbgHtXOGNACIQD/AO3pk/f9t854
LPIxyfexkO8U7AUZa486JvTKR00sDg==
-----END CERTIFICATE-----
"""

PUBLIC_TEST_PEM = (
    PUBLIC_TEST_CERTIFICATE
    + """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgLQm0Q6XnKOxRJ+Vb
f680FoiNaSFf5qZL+bKWelpRBE2hRANCAASJbaczZJSqZQynOo8p2wQ/XgLPMHHa
hMcJZu8b4AzvL0eUciPrUT5x8GjP1e4UofsIsVjYb9tVtFQbEsup9eS0
-----END PRIVATE KEY-----
"""
)

SCRIPT = r"""
import json, ssl, sys

paths = ssl.get_default_verify_paths()
answer = {"openssl_version": ssl.OPENSSL_VERSION, "flights": [], "finished": [], "error": ""}
answer["default_paths"] = [paths.openssl_cafile, paths.openssl_capath]

def step(side, end, outgoing, other):
    if side not in answer["finished"]:
        try:
            end.do_handshake()
            answer["finished"].append(side)
        except ssl.SSLWantReadError:
            pass
        except Exception as error:
            answer["error"] = answer["error"] or "{}: {}".format(type(error).__name__, error)
    data = outgoing.read()
    if data:
        answer["flights"].append([side, data.hex()])
        other.write(data)

def handshake(pem):
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(pem)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with open(pem) as file:
        client_context.load_verify_locations(cadata=file.read().partition("-----BEGIN PRIVATE")[0])
    if client_context.verify_mode != ssl.CERT_REQUIRED or not client_context.check_hostname:
        raise RuntimeError("certificate verification is off")
    client_in, server_in, client_out, server_out = [ssl.MemoryBIO() for _ in range(4)]
    client = client_context.wrap_bio(client_in, client_out, server_hostname="@HOST@")
    server = server_context.wrap_bio(server_in, server_out, server_side=True)
    for _ in range(10):
        step("client", client, client_out, server_in)
        step("server", server, server_out, client_in)

try:
    handshake(sys.argv[1])
except Exception as error:
    answer["error"] = "{}: {}".format(type(error).__name__, error)
print("@MARK@" + json.dumps(answer))
""".replace("@HOST@", HOST).replace("@MARK@", MARK)
