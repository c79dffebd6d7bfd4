"""`sereno export kubernetes`: whole manifests against a golden one and Kubernetes' own schemas and models.

`SERENO_TEST_GOLDEN=write` rewrites the golden file; read the diff before you commit it. When the exported schedules
elapse is in tests/triggers/test_exported_schedules.py.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sereno import cli
from sereno.declare import options
from sereno.declare.inputs import Inputs
from sereno.declare.job import NAME_PATTERN, Job
from sereno.errors import InvalidJob, UsageError
from sereno.export import kubernetes
from sereno.export.kubernetes import export
from sereno.scheduler import Scheduler
from sereno.triggers import CronTrigger

GOLDEN = Path(__file__).parents[1] / "golden/kubernetes.json"
# Those before have no podReplacementPolicy that is on without being asked for.
VERSIONS = sorted(
    {
        kubernetes_validate.utils.major_minor(version)
        for version in kubernetes_validate.utils.all_versions()
    }.difference(("1.25", "1.26", "1.27", "1.28"))
)
DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?")


@pytest.fixture(autouse=True, scope="module")
def _code_in_no_home() -> Iterator[None]:
    """The interpreter of the tests may be in one; the manifests are the same everywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "leads_into_a_home", lambda *_: False)
        yield


def sync(limit: int = 0, note: str = "") -> None: ...


def declared(declare: Callable[[Scheduler], Any], app: str = "shop") -> list[Job]:
    scheduler = Scheduler(app, scope="system")
    declare(scheduler)
    return scheduler.registered


def everything(scheduler: Scheduler) -> None:
    scheduler.add_cron_job(
        sync, "shop_close_books", hour=2, minute=30, timezone="Europe/Madrid", timeout="4min",
        user="1000", group="2000", network=True, memory_max="512M", cpu_quota="150%",
        kwargs={"limit": 3, "note": "$(HOME) $$"}, environment={"TEXT": 'a "b"\n$(PATH) $'},
        credentials={"db.password": "/etc/shop/db password"}, working_directory="/srv/shop",
        retries=2, retry_delay="1min", misfire_grace="5min", ping_url_file="/etc/shop/ping",
        jitter=30, accuracy=5, nice=5, io_class="idle", name="Close the books",
    )  # fmt: skip
    scheduler.add_interval_job(sync, "shop_sync_prices", minutes=15)
    scheduler.add_cron_job(sync, "shop_tidy", cron_expression="0 9 1,15 * sun", persistent=False)


def exported(declare: Callable[[Scheduler], Any], **more: Any) -> kubernetes.Exported:
    return export(declared(declare), "registry.example/shop:1.4", "Europe/Madrid", **more)


def test_the_manifests_are_the_golden_ones() -> None:
    text = json.dumps(exported(everything, namespace="prod").manifests, indent=2) + "\n"
    if os.environ.get("SERENO_TEST_GOLDEN") == "write":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.oracle
@pytest.mark.parametrize("version", VERSIONS)
def test_the_strict_schemas_of_each_version_take_them(version: str) -> None:
    items = json.loads(GOLDEN.read_text())["items"]
    for item in items:
        kubernetes_validate.validate(item, version, strict=True)
    pod = items[0]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    pod["enableServiceLink"] = pod.pop("enableServiceLinks")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(items[0], version, strict=True)


@pytest.mark.oracle
def test_the_official_models_give_them_back() -> None:
    from kubernetes.client import ApiClient, V1CronJob, V1NetworkPolicy

    with ApiClient() as client:
        for item in json.loads(GOLDEN.read_text())["items"]:
            model = {"CronJob": V1CronJob, "NetworkPolicy": V1NetworkPolicy}[item["kind"]]
            found = client.deserialize(json.dumps(item), model.__name__, "application/json")
            assert client.sanitize_for_serialization(found) == item


def pod_of(result: kubernetes.Exported, number: int = 0) -> dict[str, Any]:
    spec: dict[str, Any] = result.manifests["items"][number]["spec"]["jobTemplate"]["spec"]
    return {**spec["template"]["spec"], "job": spec}


@pytest.mark.parametrize(
    ("given_", "deadline_s"),
    [
        ({}, 86_400),
        ({"persistent": False}, 60),
        ({"misfire_grace": 2}, 10),
        ({"misfire_grace": 90.5}, 91),
        ({"minute": "*/10"}, 5_940),
        ({"minute": "*/15", "hour": "*"}, 86_400),
    ],
)
def test_no_more_than_a_hundred_elapses_lie_in_the_starting_deadline(
    given_: dict[str, Any], deadline_s: int
) -> None:
    times = {} if "minute" in given_ else {"hour": 3}
    result = exported(lambda it: it.add_cron_job(sync, "a", **{**times, **given_}))
    assert result.manifests["items"][0]["spec"]["startingDeadlineSeconds"] == deadline_s


def test_a_pod_that_never_starts_does_not_keep_its_job_for_ever() -> None:
    pod = pod_of(exported(lambda it: it.add_cron_job(sync, "a", hour=3, timeout=0.5)))
    assert (pod["activeDeadlineSeconds"], pod["job"]["activeDeadlineSeconds"]) == (1, 601)
    pod = pod_of(exported(lambda it: it.add_cron_job(sync, "a", hour=3)))
    assert (pod["activeDeadlineSeconds"], pod["job"]["activeDeadlineSeconds"]) == (3600, 4200)


def expanded(value: str, variables: dict[str, str]) -> str:
    """What a container finds, by the rule of Kubernetes' reference: $(NAME) is replaced, $$ is $."""
    return re.sub(
        r"\$(\$|\(([^)]*)\))",
        lambda found: "$" if found[1] == "$" else variables.get(found[2], found[0]),
        value,
    )


@given(st.text(st.sampled_from("$()aA\n \\'\""), max_size=12))
def test_a_value_of_the_environment_arrives_as_it_was_given(value: str) -> None:
    inputs = Inputs(environment=(("A", value),))
    job = Job("a", "shop:sync", CronTrigger.from_fields(hour=3), inputs=inputs)
    pod = pod_of(export([job], "shop", "UTC"))
    (found,) = (one for one in pod["containers"][0]["env"] if one["name"] == "A")
    assert expanded(found["value"], {"aA": "replaced", "": "replaced"}) == value


IDS = st.text(st.sampled_from("abA0_.-"), min_size=1, max_size=70).filter(NAME_PATTERN.fullmatch)


@given(st.lists(IDS, max_size=5, unique=True))
def test_every_id_gets_a_name_of_its_own_that_a_cronjob_can_have(ids: list[str]) -> None:
    names = kubernetes._names(ids)
    assert len(set(names.values())) == len(ids)
    assert all(DNS_1123.fullmatch(name) for name in names.values())
    assert names == kubernetes._names(reversed(ids))


def test_ids_that_become_the_same_or_are_too_long_are_told_apart_by_a_hash() -> None:
    names = kubernetes._names(["shop_sync", "a.b", "a_b", "A-b", "__", "x" * 53, "y" * 52])
    assert names["shop_sync"] == "shop-sync"
    assert names["y" * 52] == "y" * 52
    assert len({names["a.b"], names["a_b"], names["A-b"], "a-b"}) == 4
    # A name that looks as if it had the hash of another could be that one's.
    looks_like = names["a_b"].replace("-", "_")
    assert len(set(kubernetes._names(["a.b", "a_b", looks_like]).values())) == 3


def test_what_has_no_equivalent_is_refused_all_at_once_by_job_and_option() -> None:
    def refused(scheduler: Scheduler) -> None:
        add = scheduler.add_cron_job
        add(sync, "a", hour=3, user="www-data", group="shop", umask="0027")
        add(sync, "b", hour=3, after="a", write_paths="/var/lib/shop")
        add(sync, "c", hour=3, home=True)
        add(sync, "d", cron_expression="@reboot")
        add(sync, "e", second="*/10")
        add(sync, "f", cron_expression="0 3 L * *")
        add(sync, "g", cron_expression="0 3 * * mon#1")
        add(sync, "h", cron_expression="0 3 1-7 * */2", home="read-only")
        scheduler.add_interval_job(sync, "i", minutes=90)
        scheduler.add_interval_job(sync, "j", seconds=90)
        scheduler.add_interval_job(sync, "k", days=7)
        add(sync, "right", hour=3)

    with pytest.raises(InvalidJob) as error:
        exported(refused)
    lines = error.value.message.splitlines()[1:]
    found = [tuple(line.strip().split(": ")[:2]) for line in lines]
    days = "day, day_of_week"
    assert found == [
        ("job a", "umask"), ("job a", "user"), ("job a", "group"),
        ("job b", "after"), ("job b", "write_paths"), ("job c", "home"), ("job d", "trigger"),
        ("job e", "second"), ("job f", days), ("job g", days), ("job h", "home"), ("job h", days),
        ("job i", "interval"), ("job j", "interval"), ("job k", "interval"),
    ]  # fmt: skip
    # Each with its way out.
    assert all("; " in line for line in lines)
    assert "the nearest are 1h and 2h" in error.value.message
    assert "the nearest are 12h and 1d" in error.value.message


def test_a_home_that_only_this_machines_paths_ask_for_is_not_refused() -> None:
    def at_home(scheduler: Scheduler) -> None:
        scheduler.add_cron_job(sync, "a", hour=3, home="read-only")

    assert exported(at_home, code_in_home=["a"]).manifests["items"]


def test_what_differs_is_said_with_the_jobs_that_it_is_true_of() -> None:
    assert exported(everything).warnings == [
        "shop_close_books: two runs at 02:30 on the day on which the clocks of Europe/Madrid go back; systemd has one",
        "shop_close_books: jitter is left out: a CronJob has none",
        "shop_close_books: accuracy is left out: the controller has its own",
        "shop_close_books: nice is left out: cpu_quota is what a pod has",
        "shop_close_books: io_class is left out: a pod has none",
        "shop_sync_prices: counts from midnight UTC, and not from the run before",
        "shop_sync_prices, shop_tidy: has no network only where the cluster's network plugin heeds a NetworkPolicy",
        "shop_tidy: counts in Europe/Madrid, for want of a timezone of its own",
    ]

    def in_cairo(scheduler: Scheduler) -> None:
        scheduler.add_cron_job(sync, "a", day=1, hour=3, timezone="Africa/Cairo", network=True)

    assert exported(in_cairo).warnings == [
        "a: a run may be left out, or be a day wrong, when the clocks of Africa/Cairo change"
    ]

    def nothing(scheduler: Scheduler) -> None:
        scheduler.add_cron_job(sync, "a", minute="*/5", network=True)
        scheduler.add_cron_job(sync, "b", hour=2, timezone="UTC", network=True)

    assert exported(nothing).warnings == []


def test_the_command_for_a_secret_has_the_paths_and_no_secret() -> None:
    (command,) = exported(everything, namespace="prod").secrets
    assert shlex.split(command) == [
        *("kubectl", "create", "secret", "generic", "shop-close-books", "--namespace=prod"),
        *("--from-file=db.password=/etc/shop/db password", "--from-file=sereno_ping_url=/etc/shop/ping"),
    ]  # fmt: skip


def test_root_is_root_only_when_it_is_asked_for() -> None:
    for user, number in (("0", 0), ("1000", 1000), (None, None)):
        pod = pod_of(exported(lambda it, user=user: it.add_cron_job(sync, "a", hour=3, user=user)))
        assert pod["securityContext"].get("runAsUser") == number
        assert pod["securityContext"]["runAsNonRoot"] is (user != "0")


@pytest.mark.parametrize(
    ("field", "value"),
    [("image", ""), ("image", "a b"), ("image", "-x"), ("namespace", "Prod"), ("namespace", "a" * 64)],
)  # fmt: skip
def test_a_wrong_image_or_namespace_is_refused_by_name(field: str, value: str) -> None:
    given_ = {"image": "shop", "namespace": "prod", field: value}
    with pytest.raises(UsageError, match=f"^{field}: {value!r} "):
        export(declared(everything), given_["image"], "UTC", namespace=given_["namespace"])


JOBS = """
def sync():
    return {}

def register(scheduler):
    scheduler.add_cron_job(sync, "shop_sync", hour=2, minute=30)
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "shop_for_export.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    # No systemd, nor anything else to be called.
    monkeypatch.setenv("PATH", str(tmp_path))
    return "shop_for_export"


def test_the_command_prints_the_manifests_and_on_standard_error_what_differs(
    shop: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("export", "kubernetes", "--image", "shop:1", "--jobs", shop)
    assert cli.main([*words, "--timezone", "Europe/Madrid"]) == 0
    said = capsys.readouterr()
    job, policy = json.loads(said.out)["items"]
    assert (job["spec"]["schedule"], job["spec"]["timeZone"]) == ("30 2 * * *", "Europe/Madrid")
    assert job["metadata"]["labels"]["app.kubernetes.io/part-of"] == "shop-for-export"
    assert "namespace" not in {**job["metadata"], **policy["metadata"]}
    assert said.err.count("warning: shop_sync: ") == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--timezone", "Europe/Madird"), "--timezone: this machine has no time zone"),
        (("--image", "a b"), "image: 'a b'"),
        (("--jobs", "no_such_module"), "--jobs: "),
    ],
)
def test_a_wrong_option_ends_with_2_and_prints_no_manifest(
    shop: str, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["export", "kubernetes", "--image", "shop", "--jobs", shop, "--timezone", "UTC", *words]
    assert cli.main(asked) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err


def test_another_scheduler_is_asked_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["export", "kubernets", "--image", "shop", "--jobs", "shop"])
    assert ended.value.code == 2
    assert "did you mean 'kubernetes'?" in capsys.readouterr().err
