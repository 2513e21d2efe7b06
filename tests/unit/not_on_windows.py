"""What of the client's tests Windows leaves out, and why: a whole file, or tests by their names.

(The engine's tests are Linux's, all of them; tests/platforms/test_windows_units.py says which folders are meant for Windows.)
"""

from __future__ import annotations

from pathlib import Path

UNIT = Path(__file__).parent
SHELLS = "a completion is what a Unix shell makes of it"
PROGRAMS = "the programs that it calls are shell scripts of the test's own"
COPIES = "what is copied are links, modes and special files of a Unix"
PROCESSES = "runs `cove` as a process for each test, minutes under Wine: not run there yet"
SOCKETS = "the test's own engine is on a unix socket; local/test_named_pipes.py has what is in its place"
TERMINALS = "on a terminal of a Unix; tests/platforms/test_windows_console.py has a console"
PROC = "who has a port is told on Linux alone"
LIMITS = "Windows has no limit of open files that a process could raise"
GUEST = "the guest's side of it, which is Linux's"
ORDER = "what a server says comes through a pipe and two threads, and the test's changes come at once; Windows' a tenth of a second later"
OWN = "share/test_windows_folders.py has what Windows' files are instead"
MODES = "modes and owners of files are a Unix's"
LINKS = "symbolic links, which Wine 8 does not have as Windows has them, and Windows gives to few users"
PATHS = "places of a Unix"
CASE = "two names that differ in case alone are one on Windows"
INHERITED = "looks into /proc; local/test_named_pipes.py has the same"
OPEN = "Windows renames no file that is open; machine/test_machine_on_disk.py has what is done instead"
STORE = "Windows has its certificates in a store, and its time zone in the registry"
ZONE = "Windows' Python takes no time zone from TZ"
NOT_SEEN = "Wine 8 does not show it, and nobody has seen it on Windows: "

LEFT_OUT: dict[str, str | dict[str, str]] = {
    "cli/test_completion.py": SHELLS,
    "cli/test_compose.py": PROGRAMS,
    "cli/test_config.py": PROCESSES,
    "cli/test_cp.py": COPIES,
    "cli/test_credentials.py": PROCESSES + "; test_windows_credentials.py has a helper",
    "cli/test_earlier.py": PROCESSES,
    "cli/test_ended_machine.py": SOCKETS,
    "cli/test_hello.py": PROCESSES,
    "cli/test_image_bootstrap.py": PROCESSES,
    "cli/test_jsonmessage.py": TERMINALS,
    "cli/test_kube_commands.py": dict.fromkeys(
        [
            "test_generate_writes_yaml_and_tells_before_it_what_is_lost",
            "test_generate_as_json_and_into_a_file",
            "test_a_port_of_this_computer_alone_is_told_when_others_become_a_load_balancers",
            "test_strict_writes_nothing_when_something_is_lost",
            "test_what_docker_compose_says_is_enough",
            "test_deploy_pushes_applies_and_waits_and_down_removes",
            "test_a_cluster_that_does_not_answer_is_told_before_anything_is_pushed",
            "test_an_image_that_was_built_here_wants_a_registry",
            "test_an_image_that_is_yet_to_be_built_is_told",
        ],
        PROGRAMS,
    ),
    "cli/test_list_formats.py": PROCESSES,
    "cli/test_lost_engine.py": SOCKETS,
    "cli/test_main.py": PROCESSES,
    "cli/test_nearest.py": PROCESSES,
    "cli/test_network_options.py": PROCESSES,
    "cli/test_output.py": SOCKETS,
    "cli/test_registry_commands.py": PROCESSES,
    "cli/test_stats_display.py": {"test_events_as_lines": ZONE},
    "cli/test_stream.py": SOCKETS,
    "cli/test_timestamp.py": ZONE,
    "cli/test_upload.py": SOCKETS,
    "forward/test_docker_socket.py": SOCKETS,
    "forward/test_port_holders.py": {
        "test_the_program_that_has_a_port_is_named": PROC,
        "test_another_machine_is_told_by_its_name": PROC,
        "test_only_those_in_the_way_are_named": PROC,
        "test_a_port_for_root_alone_is_told_in_dockers_words": PROC,
        "test_somebody_elses_program_is_told_by_its_user": PROC,
        "test_a_refused_publish_names_the_program": PROC,
    },
    "forward/test_ports.py": {
        "test_a_port_that_others_took_is_lost_until_it_is_free_and_somebody_asks": PROC,
        "test_a_port_that_is_to_be_kept_is_lost_to_other_programs_alone": PROC,
    },
    "forward/test_relay.py": {
        "test_a_reset_of_one_side_becomes_one_of_the_other": NOT_SEEN + "a reset comes as an end",
        "test_what_is_taken_or_nobodys_is_refused": PROC,
    },
    "forward/test_streamed.py": {
        "test_a_client_that_reads_nothing_keeps_no_thread_when_the_guests_end_breaks": NOT_SEEN
        + "who sends goes on when another thread closes the socket",
    },
    "machine/test_descriptors.py": LIMITS,
    "machine/test_registries.py": GUEST,
    "machine/test_policy.py": {
        "test_what_others_may_write_is_refused": MODES,
        "test_what_is_not_roots_is_refused": MODES,
        "test_a_link_or_a_pipe_is_no_policy": LINKS,
    },
    "machine/test_machine_on_disk.py": {
        "test_a_file_is_replaced_whole_and_for_its_user_alone": MODES,
        "test_follow_goes_over_rotations_and_cuts": OPEN,
        "test_two_who_ask_at_once_do_not_see_each_other": "flock(2)",
        "test_a_child_that_inherits_the_lock_keeps_it": INHERITED,
        "test_keys_are_made_once_and_fit_each_other": MODES,
        "test_a_machine_comes_and_goes_with_its_docker_context": MODES,
        "test_a_copy_of_a_machines_folder_is_no_machine": CASE,
        "test_dockers_client_does_not_stay_at_a_machine_that_is_gone": LINKS,
        "test_a_directory_of_somebody_elses_is_not_used": MODES,
        "test_everything_is_under_cove_home": PATHS,
        "test_without_it_sockets_are_in_the_session_directory": PATHS,
        "test_on_macos_they_are_in_a_short_folder_that_nobody_cleans": PATHS,
        "test_a_socket_path_that_is_too_long_is_told_before_it_fails": "a pipe's name does not grow with its folder's",
        "test_a_settings_file_that_is_none_is_told": "a folder that is opened is `Permission denied` there",
    },
    "machine/test_outside.py": {
        "test_the_stores_certificates_but_for_mozillas": STORE,
        "test_the_zone_is_that_of_the_computers_own_file": STORE,
        "test_what_was_told_outlives_the_engine": GUEST,
    },
    "machine/test_settings_edit.py": {"test_whatever_is_in_the_file_others_keep_their_values": PATHS},
    "machine/test_settings_file.py": {
        "test_the_home_of_nobody_is_a_mistake_like_others": "Windows' Python takes a home for one beside the user's own",
        "test_a_link_stays_one_and_what_it_leads_to_is_written": LINKS,
    },
    "share/test_inotify.py": "Linux's",
    "share/test_ninep.py": {
        "test_files_are_read_written_and_cut": MODES,
        "test_entries_are_made_moved_and_removed": LINKS,
        "test_what_is_open_outlives_its_name": NOT_SEEN + "a file that is removed stays until nobody has it open",
        "test_large_directories_and_hard_names": "names that are no text",
        "test_owners_are_what_containers_say": LINKS,
        "test_modes_are_real_but_for_set_user_id": OWN,
        "test_times_and_attributes": "extended attributes",
        "test_what_a_file_is_changes_with_its_contents_only": NOT_SEEN
        + "a directory's time of birth is another after a change",
    },
    "share/test_ninep_attacks.py": {
        "test_names_are_names": OWN,
        "test_links_lead_nowhere": LINKS,
        "test_a_directory_swapped_for_a_link_leads_nowhere": LINKS,
        "test_a_file_swapped_for_a_link_or_pipe_is_not_opened": LINKS,
        "test_kernels_file_systems_are_not_served": PATHS,
        "test_descriptors_of_directories_are_bounded": INHERITED,
        "test_a_process_serves_and_is_confined": "the process inherits a socket, which is Linux's and macOS' way to QEMU",
    },
    "share/test_share_folders.py": {
        "test_folders_in_folders_come_with_them": PATHS,
        "test_what_is_not_there_is_told_and_no_trouble": PATHS,
        "test_a_folder_may_be_named_by_a_link": LINKS,
        "test_a_link_that_containers_can_change_names_no_folder": LINKS,
        "test_qemu_is_asked_once": PROGRAMS,
    },
    "share/test_share_manager.py": {"test_devices_come_first_and_then_the_guest_is_told": PATHS},
    "share/test_watcher.py": {
        "test_what_the_server_says_that_the_guest_does_is_not_told_to_it": ORDER,
        "test_what_may_be_the_guests_own_is_not_done_again_but_forgotten": ORDER,
    },
    "share/test_observer.py": "macOS'; share/test_windows_notifications.py has Windows'",
}
"""By file: the reason, or a reason for each test."""


def left_out(file: Path, test: str = "") -> str:
    """Why; "" for what is not left out."""
    found = LEFT_OUT.get(file.relative_to(UNIT).as_posix(), {})
    if isinstance(found, str):
        return "" if test else found
    return found.get(test, "")
