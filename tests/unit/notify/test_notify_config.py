"""notify.toml: what it means, and how it is refused."""

import os
from pathlib import Path

import pytest
from nobody import as_nobody

from sereno.errors import InvalidConfig, NotAllowed, SerenoError, rights_hint
from sereno.notify.config import load, parse, path_of

WEBHOOK = '[[handler]]\ntype = "webhook"\nurl = "https://hooks.example.org/T0KEN"\n'
MAIL = '[[handler]]\ntype = "mail"\nto = ["ops@example.org"]\n'


def test_what_is_left_away_has_its_default() -> None:
    config = parse(WEBHOOK, "f")
    assert (config.repeat_after_s, config.max_failures, config.log_lines) == (86_400, 10, 20)
    (handler,) = config.handlers
    assert (handler.name, handler.timeout_s, handler.settings["retries"]) == ("webhook", 10, 3)
    assert handler.wants("failure", "any")
    assert handler.wants("recovery", "any")
    assert handler.wants("alert", "any")


def test_an_empty_file_has_no_handlers() -> None:
    assert parse("", "f").handlers == ()


def test_a_handler_is_told_of_the_events_and_jobs_that_it_names_and_of_every_test() -> None:
    text = WEBHOOK + 'events = ["failure"]\njobs = ["shop_*", "nightly"]\n'
    (handler,) = parse(text, "f").handlers
    assert handler.wants("failure", "shop_sync")
    assert handler.wants("failure", "nightly")
    assert not handler.wants("failure", "nightly_2")
    assert not handler.wants("recovery", "shop_sync")
    assert handler.wants("test", "sereno")


def test_handlers_without_a_name_get_names_that_differ() -> None:
    text = WEBHOOK + 'name = "webhook-2"\n' + WEBHOOK + MAIL + WEBHOOK
    names = [handler.name for handler in parse(text, "f").handlers]
    assert names == ["webhook-2", "webhook", "mail", "webhook-3"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("repeat_after_s = ", "f: "),
        ("repeat_after_s = 5", "f: repeat_after_s: 5 is not a number from 60 to 31622400"),
        ("repeat_after_s = true", "repeat_after_s: True is not a number"),
        ("repeat_after = 60", "f: repeat_after: unknown key; known are repeat_after_s,"),
        ("handler = 3", "f: handler: is not an array of tables"),
        ("[[handler]]", "f: handler 1: type: None is not one of command, mail, webhook, apprise"),
        ('[[handler]]\ntype = "fax"', "type: 'fax' is not one of"),
        (MAIL + WEBHOOK + "urls = 3", "f: handler 2 (webhook): urls: unknown key"),
        ('[[handler]]\ntype = "webhook"', "url: is missing; it is an http or https URL"),
        ('[[handler]]\ntype = "webhook"\nurl = "ftp://T0KEN"', "url: the value is not an http"),
        ('[[handler]]\ntype = "webhook"\nurl = "http://T0KEN\\r\\nX: y"', "url: the value is not"),
        (WEBHOOK + 'headers = {"X\\n" = "T0KEN"}', "headers: the value is not a table"),
        (WEBHOOK + 'headers = {X = "a\\nT0KEN"}', "headers: the value is not a table"),
        (WEBHOOK + "retries = 7", "retries: 7 is not a whole number from 0 to 6"),
        (WEBHOOK + "retries = 1.5", "retries: 1.5 is not a whole number"),
        (WEBHOOK + "timeout_s = 3600", "timeout_s: 3600 is not a number from 1 to 60"),
        (WEBHOOK + 'events = ["fail"]', "events: ['fail'] is not a list of failure, recovery, alert"),
        (WEBHOOK + "jobs = []", "jobs: [] is not a list of patterns"),
        (WEBHOOK + 'name = "a"\n' + MAIL + 'name = "a"', "f: handler: two have the same name"),
        ('[[handler]]\ntype = "mail"\nto = []', "to: [] is not a list of mail addresses"),
        ('[[handler]]\ntype = "mail"\nto = ["a@b\\nBcc: c@d"]', "is not a list of mail addresses"),
        ('[[handler]]\ntype = "mail"\nto = ["-oQ/tmp"]', None),
        (MAIL + 'sendmail = "sendmail"', "sendmail: 'sendmail' is not an absolute path"),
        ('[[handler]]\ntype = "command"\ncommand = "/bin/x y"', "command: the value is not a list"),
        ('[[handler]]\ntype = "command"\ncommand = ["x"]', "command: the value is not a list of words"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused_by_file_handler_key_and_value_without_secrets(
    text: str, says: str | None
) -> None:
    if says is None:
        # It goes into the header To: only, and never becomes an argument of sendmail.
        assert parse(text, "f")
        return
    with pytest.raises(InvalidConfig) as error:
        parse(text, "f")
    assert says in error.value.message
    assert "T0KEN" not in str(error.value)


def test_a_file_that_is_not_there_or_no_text_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="there is no such file"):
        load(str(tmp_path / "notify.toml"))
    (tmp_path / "notify.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Exception, match=r"notify\.toml: ") as error:
        load(str(tmp_path / "notify.toml"))
    assert error.typename == "SerenoError"


def test_each_scope_has_its_own_file() -> None:
    assert path_of(False, {}) == "/etc/sereno/notify.toml"
    assert path_of(True, {"XDG_CONFIG_HOME": "/c"}) == "/c/sereno/notify.toml"
    assert path_of(True, {"XDG_CONFIG_HOME": "c"}).endswith("/.config/sereno/notify.toml")


def test_a_file_that_is_no_regular_one_is_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "notify.toml"
    os.mkfifo(path)
    with pytest.raises(SerenoError, match=r"notify\.toml: it is no regular file"):
        load(str(path))
    path.unlink()
    path.mkdir()
    with pytest.raises(SerenoError, match=r"notify\.toml: Is a directory"):
        load(str(path))


def test_a_file_that_the_caller_may_not_read_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "notify.toml"
    path.write_text(WEBHOOK)
    path.chmod(0)

    def refused() -> bool:
        try:
            load(str(path))
        except NotAllowed as error:
            said = (error.message, error.hint)
            return said == (f"{path}: no right to read it", rights_hint(user=True))
        return False

    assert as_nobody(refused)


def test_tables_nested_without_end_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="f: "):
        parse("x = " + "[" * 100_000, "f")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("repeat_after = 60", "did you mean 'repeat_after_s'?"),
        ("max_failure = 6", "did you mean 'max_failures'?"),
        (WEBHOOK + 'header = {a = "b"}', "did you mean 'headers'?"),
        (WEBHOOK + 'event = ["failure"]', "did you mean 'events'?"),
        (MAIL.replace("mail", "email", 1), "did you mean 'mail'?"),
        (MAIL + "log_lines = 3", "it goes above the first [[handler]]"),
        ('jobs = ["*"]', "it goes below a [[handler]]"),
        (MAIL + 'urls = ["x"]', "it is a key of type = 'apprise'"),
        (MAIL + "colour = 3", None),
    ],
)
def test_a_key_that_is_nearly_right_or_elsewhere_is_told_what_is_meant(text, hint) -> None:
    with pytest.raises(InvalidConfig) as caught:
        parse(text, "f")
    assert caught.value.hint == hint
