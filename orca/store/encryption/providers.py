"""The providers: one key each, bytes in and bytes out. Formats and limits are upstream's, so data can be moved.

Libraries are imported when a provider is made: a server without encryption never loads them.
"""

from __future__ import annotations

import os
from typing import Protocol


class Provider(Protocol):
    """Seals and opens values with one key. ``key`` is the etcd key, bound to the value where the cipher can."""

    def seal(self, value: bytes, key: bytes) -> bytes:
        """What is stored, without the prefix."""

    def open(self, data: bytes, key: bytes) -> bytes:
        """The value. Raises ValueError when ``data`` was not made by ``seal`` with the same secret."""


class Secretbox:
    """XSalsa20 and Poly1305 (NaCl): a nonce of 24 bytes, then the box."""

    SIZES = (32,)

    def __init__(self, secret: bytes) -> None:
        from nacl.exceptions import CryptoError
        from nacl.secret import SecretBox

        self._box, self._wrong = SecretBox(secret), CryptoError

    def seal(self, value: bytes, key: bytes) -> bytes:
        return bytes(self._box.encrypt(value))

    def open(self, data: bytes, key: bytes) -> bytes:
        try:
            return bytes(self._box.decrypt(data))
        except (self._wrong, ValueError):
            raise ValueError("the data was sealed with another key or is damaged") from None


class AesGcm:
    """AES in Galois/counter mode with the etcd key as additional data: a nonce of 12 bytes, then text and tag.

    Nonces are random, so a key must be rotated long before 2**32 writes, as upstream says of this provider.
    """

    SIZES = (16, 24, 32)
    _NONCE = 12

    def __init__(self, secret: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._cipher, self._wrong = AESGCM(secret), InvalidTag

    def seal(self, value: bytes, key: bytes) -> bytes:
        nonce = os.urandom(self._NONCE)
        return nonce + self._cipher.encrypt(nonce, value, key)

    def open(self, data: bytes, key: bytes) -> bytes:
        try:
            return self._cipher.decrypt(data[: self._NONCE], data[self._NONCE :], key)
        except (self._wrong, ValueError):
            raise ValueError(
                "the data was sealed with another key, was moved from another object, or is damaged"
            ) from None


class AesCbc:
    """AES in cipher block chaining mode with PKCS#7 padding: an IV of 16 bytes, then the text."""

    SIZES = (16, 24, 32)
    _BLOCK = 16

    def __init__(self, secret: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.algorithms import AES

        self._algorithm = AES(secret)

    def seal(self, value: bytes, key: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, modes
        from cryptography.hazmat.primitives.padding import PKCS7

        vector = os.urandom(self._BLOCK)
        padder = PKCS7(self._BLOCK * 8).padder()
        sealer = Cipher(self._algorithm, modes.CBC(vector)).encryptor()
        return vector + sealer.update(padder.update(value) + padder.finalize()) + sealer.finalize()

    def open(self, data: bytes, key: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers import Cipher, modes
        from cryptography.hazmat.primitives.padding import PKCS7

        if len(data) < 2 * self._BLOCK or len(data) % self._BLOCK:
            raise ValueError("the stored data is not a multiple of the block size")
        opener = Cipher(self._algorithm, modes.CBC(data[: self._BLOCK])).decryptor()
        padded = opener.update(data[self._BLOCK :]) + opener.finalize()
        unpadder = PKCS7(self._BLOCK * 8).unpadder()
        try:
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError:
            raise ValueError("the data was sealed with another key or is damaged") from None


PROVIDERS: dict[str, type[Secretbox | AesGcm | AesCbc]] = {
    "secretbox": Secretbox,
    "aesgcm": AesGcm,
    "aescbc": AesCbc,
}
