"""What install.sh puts where journalctl -x and man find it: explanations in the reader's language, and the pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shop import FAILED, Shop

import catalogue
from shipped import REPOSITORY

if TYPE_CHECKING:
    from machine import Machine


def explained(machine: Machine, job_id: str, language: str) -> str:
    """The records of a job as `journalctl -x` shows them, without the marks before the explanations."""
    printed = machine.run(
        "journalctl", "-x", "--no-pager", f"SERENO_JOB={job_id}", FAILED, env={"LC_ALL": language}
    ).stdout
    return "\n".join(line.removeprefix("░░").strip() for line in printed.splitlines())


def test_journalctl_explains_a_failed_run_with_its_own_fields(shop: Shop) -> None:
    machine = shop.machine
    shop.install("add_interval_job(shop_jobs.raises, 'explained', hours=1)")
    machine.run("systemctl", "start", "sereno@explained.service", check=False)
    (record,) = machine.wait_for(
        lambda: shop.runs("explained", FAILED), what="the record of the failed run"
    )
    text = explained(machine, "explained", "C.UTF-8")
    assert "Subject: Job explained has failed" in text
    assert f"journalctl SERENO_RUN={record['SERENO_RUN']}\n" in text
    assert record["SERENO_ERROR"] in text
    assert "sereno run explained --wait" in text
    for field in ("@SERENO_", "SERENO_JOB@"):
        assert field not in text


def test_who_reads_with_a_spanish_locale_gets_the_explanation_in_spanish(shop: Shop) -> None:
    machine = shop.machine
    machine.run("localedef", "-i", "es_ES", "-f", "UTF-8", "es_ES.UTF-8")
    shop.install("add_interval_job(shop_jobs.raises, 'explicada', hours=1)")
    machine.run("systemctl", "start", "sereno@explicada.service", check=False)
    machine.wait_for(lambda: shop.runs("explicada", FAILED), what="the record of the failed run")
    text = explained(machine, "explicada", "es_ES.UTF-8")
    assert "La tarea explicada ha fallado" in text
    assert "Cuando la causa esté arreglada:" in text


def test_every_kind_is_in_the_machines_catalogue_beside_systemds_own(
    machine: Machine,
) -> None:
    listed = machine.run("journalctl", "--list-catalog").stdout
    for entry in catalogue.entries("en"):
        assert entry.kind in listed
    # Those of systemd are still there.
    assert "39f53479d3a045ac8e11786248231fbf" in listed


def test_a_run_logs_in_english_where_its_service_says_so(shop: Shop) -> None:
    machine = shop.machine
    shop.install("add_interval_job(shop_jobs.quick, 'in_english', hours=1)")
    machine.write(
        "/etc/systemd/system/sereno@in_english.service.d/language.conf",
        "[Service]\nEnvironment=SERENO_LANG=en\n",
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "sereno@in_english.service")
    said = machine.run(
        "journalctl", "-o", "cat", "SERENO_JOB=in_english", "SYSLOG_IDENTIFIER=in_english"
    ).stdout
    assert "Job in_english started\n" in said


def test_the_manual_pages_are_where_man_looks_for_them(machine: Machine) -> None:
    for page in sorted((REPOSITORY / "systemd/man").iterdir()):
        path = f"/usr/local/share/man/man{page.suffix[1:]}/{page.name}"
        assert machine.run("head", "-n", "1", path).stdout.startswith('.\\" Generated')
        assert machine.run("stat", "-L", "-c", "%a", path).stdout == "644\n"
    assert "sereno status JOB" in machine.run("man", "sereno").stdout
    assert "misfire_grace=" in machine.run("man", "5", "sereno-jobs").stdout
