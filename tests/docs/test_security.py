"""docs/security.md claims nothing that no test holds: each of its points is here, with those that do."""

from __future__ import annotations

import re

import pytest

from sereno.cache import as_owner, locks
from sereno.cli import cache as cache_commands
from shipped import REPOSITORY

PAGE = REPOSITORY / "docs/security.md"
# How a point begins: the tests that hold it.
HELD_BY = {
    "Root's commands leave": ["test_the_child_has_nothing_but_the_rights_of_the_owner"],
    "What that process tells": [
        "test_the_bounds_of_the_page_are_those_of_the_code",
        "test_what_a_child_answers_is_bounded_in_size_and_time",
        "test_an_advice_is_never_the_childs",
    ],
    "If it is killed": [
        "test_a_child_that_gives_no_answer_is_one_error",
        "test_a_board_that_is_cut_under_a_command_of_root_kills_no_process_of_root",
    ],
    "A program that opens": [
        "test_a_link_that_takes_the_stores_place_before_root_closes_it_cuts_no_file",
        "test_a_link_that_takes_the_lock_files_place_while_the_store_is_judged_has_nothing_overwritten",
        "test_no_call_by_path_enters_the_code_that_root_runs_in_others_directories",
    ],
    "A program that does so": ["test_a_board_that_is_cut_under_a_program_kills_it"],
    "A report is written": ["test_a_report_is_not_written_where_somebody_else_leads_it"],
    "An advice names": [
        "test_no_name_and_no_link_of_the_groups_gets_into_what_doctor_advises",
        "test_an_advice_is_quoted_for_a_shell",
    ],
    "What others name": [
        "test_no_name_and_no_link_of_the_groups_gets_into_what_doctor_advises",
        "test_what_a_member_stores_is_no_command_for_roots_terminal",
        "test_what_a_server_says_is_shown_without_what_a_terminal_obeys",
    ],
    "A record in": [
        "test_records_of_an_unprivileged_user_are_not_believed_however_many",
        "test_a_job_speaks_for_no_other_and_not_for_systemd",
        "test_what_any_user_can_write_into_the_journal_is_no_finding",
    ],
    "Nothing is installed": [
        "test_a_wheel_with_other_bytes_is_refused_and_nothing_is_switched",
        "test_nothing_is_installed_where_another_user_could_change_it",
        "test_a_prefix_that_another_user_could_change_is_refused",
    ],
    "`sereno doctor` names": ["test_a_fault_is_one_finding_and_its_hint_mends_it_and_runs_no_job"],
    "He reads, changes": [
        "test_what_one_member_sets_the_other_reads_and_what_he_invalidates_is_gone_at_once"
    ],
    "He can crash": ["test_a_board_that_is_cut_under_a_program_kills_it"],
    "Who holds a lock": [
        "test_a_lock_that_somebody_holds_keeps_no_command_of_root_waiting_and_he_is_named",
        "test_a_call_gives_up_after_what_the_setting_says_and_names_the_holder",
    ],
    "Who takes LMDB's": [
        "test_a_lock_that_somebody_holds_keeps_no_command_of_root_waiting_and_he_is_named",
        "test_who_takes_the_stores_own_lock_holds_up_other_programs",
    ],
    "A flood of": [
        "test_a_flood_of_the_socket_by_a_member_of_the_group_delays_a_recovery_by_seconds_only"
    ],
    "At worst he does": ["test_the_child_has_nothing_but_the_rights_of_the_owner"],
    "It has no privileges": [
        "test_a_run_can_write_nothing_of_the_kernels_and_make_none_of_the_calls_that_it_may_not",
        "test_a_job_writes_where_it_says_and_nowhere_else",
        "test_a_unit_is_exposed_so_far_and_no_further",
    ],
    "It sees no other": ["test_what_a_run_can_do_to_another_is_what_the_page_says"],
    "Its arguments": ["test_what_a_job_is_given_is_everybodys_to_read_but_not_its_credential"],
    "It cannot read": ["test_a_job_cannot_read_the_handlers_secrets_nor_ask_for_a_test"],
    "It leaves its metrics": [
        "test_what_others_put_in_the_place_of_a_jobs_metrics_neither_stops_nor_changes_it"
    ],
    "Jobs of one user": [
        "test_one_drop_in_has_every_job_leave_its_metrics_and_losing_them_harms_no_run"
    ],
    "A pipe, a link": ["test_what_is_no_file_of_this_run_is_not_read_and_holds_nobody_up"],
    "Of its answer": [
        "test_what_a_server_says_is_shown_without_what_a_terminal_obeys",
        "test_of_what_a_server_says_little_is_shown_and_nothing_that_a_terminal_obeys",
        "test_where_a_server_wants_to_redirect_to_is_neither_followed_nor_shown",
    ],
    "One that does not": [
        "test_a_handler_that_hangs_keeps_no_message_of_another_waiting",
        "test_a_server_that_answers_a_character_at_a_time_is_given_up_at_the_time_limit",
    ],
    "A monitor that": [
        "test_a_dead_monitor_leaves_the_result_and_delays_the_end_within_bounds",
        "test_a_dead_monitor_does_not_hide_a_failure",
    ],
    "A URL with": ["test_the_url_can_be_a_file_that_only_root_reads"],
    "He installs, changes": ["test_start_without_rights_says_which_and_offers_the_user_scope"],
    "He cannot open": [
        "test_whoever_is_not_in_the_group_can_neither_read_nor_write_nor_open_it",
        "test_what_a_stranger_plants_in_a_caches_place_is_refused",
    ],
    "A directory that every": [
        "test_a_directory_that_strangers_own_or_write_is_refused_with_the_way_to_mend_it"
    ],
}


def points() -> list[str]:
    text = PAGE.read_text("utf-8")
    found = re.findall(r"^- (.*?)(?=\n- |\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return [" ".join(point.split()) for point in found]


def test_each_point_of_the_page_is_in_the_table_and_the_other_way_round() -> None:
    starts = [[start for start in HELD_BY if point.startswith(start)] for point in points()]
    assert all(len(each) == 1 for each in starts), starts
    assert sorted(each[0] for each in starts) == sorted(HELD_BY)


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The names of all tests."""
    return {
        name
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *def (test_\w+)\(", path.read_text("utf-8"), re.MULTILINE)
    }


@pytest.mark.parametrize("start", HELD_BY)
def test_a_point_is_held_by_tests_that_there_are(start: str, known: set[str]) -> None:
    assert set(HELD_BY[start]) <= known


def test_the_bounds_of_the_page_are_those_of_the_code() -> None:
    text = " ".join(PAGE.read_text("utf-8").split())
    minutes = round(cache_commands._LONG_S / 60)
    assert f"at most {as_owner.MOST_BYTES >> 20} MiB" in text
    assert (
        f"within {as_owner.WITHIN_S} seconds ({minutes} minutes for `cleanup` and `clear`" in text
    )
    assert f"for {locks.WAIT_S:.0f} seconds (`{locks.SETTING}`)" in text


def test_the_readmes_lead_to_the_page() -> None:
    for name in ("README.md", "README.es.md"):
        assert "(docs/security.md)" in (REPOSITORY / name).read_text("utf-8")
