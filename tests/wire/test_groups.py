"""The group table against its parts: a hybrid's shares are the sums of their components' sizes."""

from __future__ import annotations

import pytest

from pqtls.wire.groups import GROUPS, group_code, group_kind, group_name, is_grease

MLKEM = {512: (800, 768), 768: (1184, 1088), 1024: (1568, 1568)}  # FIPS 203, table 3: ek and c
CURVE = {
    "X25519": 32,
    "SecP256r1": 65,
    "SecP384r1": 97,
    "curveSM2": 65,
    "p256": 65,
    "p384": 97,
    "p521": 133,
    "x448": 56,
}


def test_code_points_of_rfc_10024_and_the_drafts() -> None:
    expected = {
        "MLKEM512": 512,
        "MLKEM768": 513,
        "MLKEM1024": 514,
        "SecP256r1MLKEM512": 4585,
        "MLKEM512X25519": 4586,
        "SecP256r1MLKEM768": 4587,
        "X25519MLKEM768": 4588,
        "SecP384r1MLKEM1024": 4589,
        "curveSM2MLKEM768": 4590,
        "X25519Kyber768Draft00": 0x6399,
        "SecP256r1Kyber768Draft00": 0x639A,
    }
    assert {name: group_code(name) for name in expected} == expected


@pytest.mark.parametrize("code", sorted(code for code, group in GROUPS.items() if group.kind in ("hybrid", "pure")))
def test_sizes_are_sums(code: int) -> None:
    group = GROUPS[code]
    level = next(level for level in (512, 768, 1024) if f"MLKEM{level}" in group.name)
    curve = group.name.replace(f"MLKEM{level}", "")
    add = CURVE[curve] if curve else 0
    assert (group.client_share_bytes, group.server_share_bytes) == (MLKEM[level][0] + add, MLKEM[level][1] + add)


@pytest.mark.parametrize("code", [0x2F4B, 0x2F4C, 0x2F4D, 0x2FB6, 0x2FB7])
def test_sizes_of_experimental_groups_are_sums(code: int) -> None:
    group = GROUPS[code]
    curve, _, kem = group.name.partition("_")
    sizes = MLKEM[int(kem.removeprefix("mlkem"))]
    add = 32 if curve == "x25519" else CURVE[curve]
    assert (group.client_share_bytes, group.server_share_bytes) == (sizes[0] + add, sizes[1] + add)


def test_only_registered_groups_with_ml_kem_count() -> None:
    counted = {group.name for group in GROUPS.values() if group.kind in ("hybrid", "pure")}
    assert len(counted) == 9
    assert all("MLKEM" in name for name in counted)
    assert group_kind(0x6399) == "draft"
    assert group_kind(0xFE30) == "draft"
    assert group_kind(0x2F4B) == "experimental"
    assert group_kind(0x001D) == "classical"
    assert group_kind(0x11EF) == "unknown"
    assert group_kind(0x1A1A) == "grease"


def test_names() -> None:
    assert group_name(0x11EC) == "X25519MLKEM768"
    assert group_name(0x11EF) == "0x11ef"
    assert group_name(0x1A1A) == "GREASE-0x1a1a"
    assert [code for code in range(0x10000) if is_grease(code)] == [0x0A0A + 0x1010 * step for step in range(16)]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("x25519", 0x1D),
        ("X25519", 0x1D),
        ("P-256", 0x17),
        ("prime256v1", 0x17),
        ("0x11ec", 0x11EC),
        ("x25519mlkem768", 0x11EC),
    ],
)
def test_names_as_input(name: str, code: int) -> None:
    assert group_code(name) == code


@pytest.mark.parametrize("name", ["", "nonsense", "0x", "0xzz", "0x10000", "X448MLKEM1024"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(KeyError):
        group_code(name)


def test_every_name_is_taken_back() -> None:
    assert {group_code(group.name) for group in GROUPS.values()} == set(GROUPS)
