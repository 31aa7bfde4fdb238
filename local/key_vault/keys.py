"""What a vault does with a key: make, show the public half, wrap, sign and their reverses.

Pure: PEM and bytes in, bytes out. Algorithms are those of the service for RSA and EC keys;
symmetric keys exist only in its managed HSM and are not offered.
"""

from __future__ import annotations

import base64
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

OPERATIONS = {
    "RSA": ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"],
    "EC": ["sign", "verify"],
}
_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
}
_RSA_SIZES = (2048, 3072, 4096)
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
_ES_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


class BadKeyRequestError(ValueError):
    """The request cannot be done with this key; the text says why."""


def generate(*, kind: str, size: int | None, curve: str | None) -> tuple[str, dict[str, Any]]:
    """A new key as (PEM, public JSON Web Key). Slow for RSA: call it in a thread."""
    match kind:
        case "RSA" | "RSA-HSM":
            bits = size or 2048
            if bits not in _RSA_SIZES:
                raise BadKeyRequestError(f"The key size {bits} is not one of {_RSA_SIZES}.")
            key: Private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        case "EC" | "EC-HSM":
            if (curve or "P-256") not in _CURVES:
                raise BadKeyRequestError(f"The curve {curve!r} is not one of {list(_CURVES)}.")
            key = ec.generate_private_key(_CURVES[curve or "P-256"]())
        case _:
            raise BadKeyRequestError(f"The key type {kind!r} is not supported: RSA or EC is.")
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    return pem, {"kty": kind, **_public(key)}


def perform(pem: str, operation: str, algorithm: str, value: bytes) -> bytes:
    """Encrypt, decrypt, wrap, unwrap or sign (`value` is then the digest)."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    match key, operation:
        case rsa.RSAPrivateKey(), "encrypt" | "wrapkey":
            return _guard(key.public_key().encrypt, value, _encryption(algorithm))
        case rsa.RSAPrivateKey(), "decrypt" | "unwrapkey":
            return _guard(key.decrypt, value, _encryption(algorithm))
        case rsa.RSAPrivateKey(), "sign":
            pad, digest = _signature(algorithm, value)
            return key.sign(value, pad, utils.Prehashed(digest))
        case ec.EllipticCurvePrivateKey(), "sign":
            digest, size = _ecdsa(key, algorithm, value)
            r, s = utils.decode_dss_signature(
                key.sign(value, ec.ECDSA(utils.Prehashed(digest)))
            )
            return r.to_bytes(size) + s.to_bytes(size)
    raise BadKeyRequestError(f"The operation {operation} does not exist for this type of key.")


def verify(pem: str, algorithm: str, digest_value: bytes, signature: bytes) -> bool:
    """Whether `signature` is this key's over the digest."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    try:
        match key:
            case rsa.RSAPrivateKey():
                pad, digest = _signature(algorithm, digest_value)
                key.public_key().verify(signature, digest_value, pad, utils.Prehashed(digest))
            case ec.EllipticCurvePrivateKey():
                digest, size = _ecdsa(key, algorithm, digest_value)
                if len(signature) != 2 * size:
                    return False
                numbers = (
                    int.from_bytes(signature[:size]),
                    int.from_bytes(signature[size:]),
                )
                key.public_key().verify(
                    utils.encode_dss_signature(*numbers),
                    digest_value,
                    ec.ECDSA(utils.Prehashed(digest)),
                )
    except InvalidSignature:
        return False
    return True


def to_base64url(value: bytes) -> str:
    """Bytes as the service writes them: base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """The reverse; raises ValueError on anything else."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _public(key: Private) -> dict[str, Any]:
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return {"n": _number(numbers.n), "e": _number(numbers.e)}
    point = key.public_key().public_numbers()
    size = (key.key_size + 7) // 8
    return {"crv": _curve_name(key), "x": _number(point.x, size), "y": _number(point.y, size)}


def _number(value: int, size: int | None = None) -> str:
    return to_base64url(value.to_bytes(size or (value.bit_length() + 7) // 8))


def _curve_name(key: ec.EllipticCurvePrivateKey) -> str:
    return next(name for name, curve in _CURVES.items() if isinstance(key.curve, curve))


def _encryption(algorithm: str) -> padding.AsymmetricPadding:
    match algorithm:
        case "RSA-OAEP-256":
            digest: hashes.HashAlgorithm = hashes.SHA256()
        case "RSA-OAEP":
            digest = hashes.SHA1()  # noqa: S303 — the algorithm's definition
        case "RSA1_5":
            return padding.PKCS1v15()
        case _:
            raise BadKeyRequestError(f"The algorithm {algorithm!r} is not one of this key's.")
    return padding.OAEP(mgf=padding.MGF1(digest), algorithm=digest, label=None)


def _signature(
    algorithm: str, digest_value: bytes
) -> tuple[padding.AsymmetricPadding, hashes.HashAlgorithm]:
    family, bits = algorithm[:2], algorithm[2:]
    if family not in {"RS", "PS"} or bits not in _HASHES:
        raise BadKeyRequestError(f"The algorithm {algorithm!r} is not one of this key's.")
    digest = _HASHES[bits]()
    _check_length(digest, digest_value)
    if family == "RS":
        return padding.PKCS1v15(), digest
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size), digest


def _ecdsa(
    key: ec.EllipticCurvePrivateKey, algorithm: str, digest_value: bytes
) -> tuple[hashes.HashAlgorithm, int]:
    if _ES_CURVES.get(algorithm) != _curve_name(key):
        raise BadKeyRequestError(f"The algorithm {algorithm!r} is not one of this key's.")
    digest = _HASHES[algorithm[2:]]()
    _check_length(digest, digest_value)
    return digest, (key.key_size + 7) // 8


def _check_length(digest: hashes.HashAlgorithm, value: bytes) -> None:
    if len(value) != digest.digest_size:
        raise BadKeyRequestError(
            f"The digest has {len(value)} bytes, {digest.name} has {digest.digest_size}."
        )


def _guard(action: Any, value: bytes, pad: padding.AsymmetricPadding) -> bytes:  # noqa: ANN401 — a bound method of the library
    try:
        return action(value, pad)
    except ValueError as error:
        raise BadKeyRequestError("The value does not fit this key and algorithm.") from error
