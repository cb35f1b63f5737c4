"""The checks of packages: a checker's complaint fails, a missing one is told."""

from typing import Any

import pytest

from tests.support.packaging_script import script

package_checks = script("linux/package_checks")


def test_a_missing_checker_is_told_and_nothing_fails(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(package_checks.shutil, "which", lambda _: None)
    assert package_checks.check([]) == ["lintian"]
    assert "not checked with lintian" in capsys.readouterr().out


def test_a_complaint_fails_with_its_words() -> None:
    with pytest.raises(package_checks.CheckError, match=r"bad tag\nsh does not accept the package"):
        package_checks._run(["sh", "-c", "echo bad tag; exit 1"], [])
    package_checks._run(["sh", "-c", "echo fine"], [])
