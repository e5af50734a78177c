"""Tests encrypted connections with a trusted and an untrusted certificate."""

import datetime
import ipaddress

import grpc
import pytest

from tests.serving.scripted import CALLERS, Script, playing

status = lambda client: client.status()


def certificate():
    """Returns (certificate, key) in PEM: a self-signed certificate for 127.0.0.1."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cmclrec")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return signed.public_bytes(serialization.Encoding.PEM), private


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory):
    """Yields an encrypted target, its certificate file, and an unrelated certificate file."""
    folder = tmp_path_factory.mktemp("tls")
    trusted, key = certificate()
    (folder / "roots.pem").write_bytes(trusted)
    (folder / "other.pem").write_bytes(certificate()[0])
    with playing(Script(), credentials=grpc.ssl_server_credentials([(key, trusted)])) as target:
        yield target, folder / "roots.pem", folder / "other.pem"


@pytest.mark.parametrize("call", CALLERS)
def test_trusted_certificate(call, encrypted):
    target, roots, _ = encrypted
    assert call(target, [status], root_certificates=roots) == [{7: "AVAILABLE"}]
    credentials = grpc.ssl_channel_credentials(roots.read_bytes())
    assert call(target, [status], credentials=credentials) == [{7: "AVAILABLE"}]


@pytest.mark.parametrize("call", CALLERS)
def test_untrusted_certificate(call, encrypted):
    target, _, other = encrypted
    for options in ({"root_certificates": other}, {}):
        (error,) = call(target, [status], timeout=0.3, **options)
        assert error.code == grpc.StatusCode.UNAVAILABLE
