#!/usr/bin/env python3
"""Decrypts the body of an encrypted callback (`callback_options.encrypt`).

  pip install jwcrypto
  python3 examples/decrypt_callback.py --secret s3cret < body

The body is a JWE in compact form: `dir` with `A256GCM`. The key is HKDF-SHA256 of the callback secret (its UTF-8 bytes),
without salt, with the info "carillon callback encryption", 32 bytes. `kid` in its header tells which secret it is, after
a rotation: the first 8 bytes of the same HKDF with the info "carillon callback key id", in hexadecimal digits.
"""

import argparse
import hashlib
import hmac
import json
import sys

from jwcrypto import jwe, jwk
from jwcrypto.common import base64url_encode


def derive(secret, info, length):
    """HKDF-SHA256 (RFC 5869) without salt, of one block at most."""
    extracted = hmac.new(b"\0" * 32, secret.encode(), hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()[:length]


def key_id(secret):
    return derive(secret, b"carillon callback key id", 8).hex()


def decrypt(body, secrets):
    """The payload of an encrypted body, with whichever of these secrets it was made for."""
    token = jwe.JWE()
    token.deserialize(body.decode())
    kid = json.loads(token.objects["protected"])["kid"]
    for secret in secrets:
        if hmac.compare_digest(key_id(secret), kid):
            key = derive(secret, b"carillon callback encryption", 32)
            token.decrypt(jwk.JWK(kty="oct", k=base64url_encode(key)))
            return json.loads(token.payload)
    raise ValueError(f"encrypted for another secret: {kid}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Decrypts the body of an encrypted callback.")
    parser.add_argument("--secret", action="append", required=True, help="the callback secret; twice after a rotation")
    print(json.dumps(decrypt(sys.stdin.buffer.read().strip(), parser.parse_args().secret), indent=2))
