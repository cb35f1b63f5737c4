"""What is said about the library."""

from typing import Any

from app.fetch_plan import FetchPlan
from app.library_words import (
    choice_offers,
    cost_lines,
    fetch_request,
    file_name,
    hub_words,
    item_words,
    keeping_words,
    kept_words,
    machine_words,
    offer_source,
    offer_words,
    removal_words,
    removed_words,
    room_words,
    shortfall_words,
    used_words,
    welcome_offers,
)
from engine.protocol_library import (
    DiskRoom,
    Fit,
    HubState,
    Library,
    LibraryItem,
    MachineSummary,
    Offer,
    RemoteFileEntry,
    Removed,
)

GB = 10**9
DAY_S = 86_400
NOON = 1_790_000_000 - 1_790_000_000 % DAY_S + DAY_S / 2
OFFER: dict[str, Any] = {
    "name": "flash-0731", "title": "Flash", "kind": "checkpoint", "repository": "deepseek-ai/DeepSeek-V4-Flash",
    "revision": "7872f01b1d1fe23eabc4c98b48bffcef5a386062", "pinned": True, "licence": "MIT",
    "download_bytes": 160 * GB, "working_bytes": 8 * GB,
    "results": [{"dense": "q8_0", "model_bytes": 150 * GB, "draft_bytes": 10 * GB}],
}  # fmt: skip
ITEM = {"id": "m1", "kind": "model", "name": "flash", "path": "/m/flash.gguf", "size_bytes": 5 * GB}


def offer(**more: Any) -> Offer:
    return Offer.model_validate({**OFFER, **more})


def item(**more: Any) -> LibraryItem:
    return LibraryItem.model_validate({**ITEM, **more})


def test_an_item_in_one_line() -> None:
    assert item_words(item(), NOON) == "5.0 GB · not used yet"
    told = item(kind="checkpoint", release="V4", files=48, complete=False)
    assert item_words(told, NOON) == "V4 · checkpoint, not complete yet · 5.0 GB · 48 files"
    assert item_words(item(release="flash"), NOON) == "5.0 GB · not used yet"


def test_last_use_in_days_of_the_calendar() -> None:
    assert used_words(NOON - 60, NOON) == "used today"
    assert used_words(NOON + 3 * DAY_S, NOON) == "used today"  # the clock was set back
    assert used_words(NOON - DAY_S, NOON) == "used yesterday"
    assert used_words(NOON - 9 * DAY_S, NOON) == "used 9 days ago"
    assert used_words(NOON - 100 * DAY_S, NOON) == "used 3 months ago"
    assert used_words(NOON - 800 * DAY_S, NOON) == "used 2 years ago"


def test_an_offer_says_what_it_takes() -> None:
    assert offer_words(offer()) == (
        "160.0 GB to download · 160.0 GB once converted · 168.0 GB at most meanwhile · MIT"
    )
    assert "160.0 GB to download, about 3 h 33 min at 100 Mbit/s ·" in offer_words(offer(), tells_time=True)
    assert (
        offer_words(offer(download_bytes=None, results=[], licence=None))
        == "size known once the hub is asked"
    )
    assert offer_source(offer()) == "deepseek-ai/DeepSeek-V4-Flash @ 7872f01b1d1f"
    assert offer_source(offer(pinned=False, revision="main", own=True)).endswith("@ main · your catalogue")
    assert file_name(offer()) == "DeepSeek-V4-Flash"


def test_the_true_cost_line_by_line() -> None:
    plan = FetchPlan.of(offer(), convert=True, dense="q8_0", consume=True)
    assert cost_lines(plan) == [
        ("To download", "160.0 GB"),
        ("On the disk at the end", "160.0 GB"),
        ("On the disk at most", "168.0 GB"),
        ("Time", "about 3 h 33 min on a line of 100 Mbit/s, as an example"),
    ]
    plan = FetchPlan.of(offer(download_bytes=None), convert=False, dense="q8_0", consume=False)
    assert cost_lines(plan) == [("To download", "not known yet"), ("On the disk", "not known yet")]
    assert shortfall_words([]) == ""
    assert shortfall_words([(5 * GB, 3 * GB)]).startswith(
        "There is not enough room: it takes 5.0 GB, and 3.0 GB are free there."
    )


def test_folders_on_one_disk_share_a_line() -> None:
    models = DiskRoom(role="models", path="/m", free_bytes=812 * GB, total_bytes=2000 * GB)
    checkpoints = models.model_copy(update={"role": "checkpoints", "path": "/c"})
    [(words, used)] = room_words([models, checkpoints])
    assert words == "Models and Checkpoints: 812.0 GB free of 2,000.0 GB"
    assert used == 0.594
    other = checkpoints.model_copy(update={"total_bytes": 0, "free_bytes": 5})
    assert [used for _, used in room_words([models, other])] == [0.594, 0.0]


def test_each_of_several_models_is_an_offer() -> None:
    assert choice_offers(offer(), []) == [offer()]
    choices = [
        RemoteFileEntry(path="q4.gguf", size_bytes=7 * GB),
        RemoteFileEntry(path="q8.gguf", size_bytes=9 * GB),
    ]
    fit = Fit(verdict="unknown", text="How large it is will be known once the hub was asked.")
    made = choice_offers(offer(kind="gguf", item_id="m3", fit=fit), choices)
    assert [(each.title, each.files, each.download_bytes) for each in made] == [
        ("q4.gguf", ["q4.gguf"], 7 * GB), ("q8.gguf", ["q8.gguf"], 9 * GB),
    ]  # fmt: skip
    assert made[0].item_id is None
    assert made[0].fit is None
    assert choice_offers(offer(kind="gguf", fit=fit), choices[:1])[0].fit == fit


def test_what_is_asked_for() -> None:
    asked = fetch_request(offer(), None, ("bf16", True, "/m/x.gguf"))
    assert (asked.what, asked.revision, asked.folder) == ("flash-0731", OFFER["revision"], None)
    assert asked.convert is not None
    assert (asked.convert.dense, asked.convert.consume, asked.convert.target) == ("bf16", True, "/m/x.gguf")
    plain = fetch_request(offer(revision="", files=["*.gguf"]), "/c/flash", None)
    assert (plain.revision, plain.files, plain.folder, plain.convert) == (None, ["*.gguf"], "/c/flash", None)


def test_where_a_token_is_kept_is_said_before_and_after() -> None:
    without = HubState(endpoint="h", token="this_run", keyring_problem="No keyring answers; install one.")
    assert keeping_words(without) == (
        "It is kept for this run only, and asked for again next time: no keyring answers; install one."
    )
    assert "keyring" in keeping_words(HubState(endpoint="h"))
    assert "keyring" in keeping_words(None)
    assert (
        kept_words(without) == "The access token is kept for this run only: no keyring answers; install one."
    )
    assert (
        kept_words(HubState(endpoint="h", token="keyring"))
        == "The access token is kept in this system’s keyring."
    )


def test_how_the_hub_is_reached() -> None:
    assert hub_words(HubState(endpoint="https://hub")) == ("Models come from https://hub", False)
    assert hub_words(HubState(endpoint="https://hub", token="keyring"))[1]
    assert not hub_words(HubState(endpoint="https://hub", token="environment"))[1]
    assert hub_words(HubState(endpoint="https://hub", offline=True))[0].startswith("Offline")


def test_removing_names_size_and_place() -> None:
    question, meaning = removal_words(item(files=2), stays=False)
    assert question == "Remove flash?"
    assert meaning.startswith("2 files, 5.0 GB, in /m/flash.gguf")
    assert "only once the trash is emptied" in meaning
    question, meaning = removal_words(item(), stays=True)
    assert question == "Take flash off the list?"
    assert "stays there" in meaning
    assert "only taken off the list" in removal_words(item(kind="checkpoint"), stays=False)[1]
    assert removed_words("flash", Removed(size_bytes=0, in_trash=False)) == (
        "flash is off the list; its files stay where they lie."
    )
    assert "once that is emptied" in removed_words("flash", Removed(size_bytes=5 * GB, in_trash=True))
    assert removed_words("flash", Removed(size_bytes=5 * GB, in_trash=False)) == (
        "flash is deleted; 5.0 GB are free again."
    )


def test_the_machine_in_one_sentence() -> None:
    machine = MachineSummary(processor="CPU", cores=8, memory_bytes=64 * GB, gpus=["GPU, 24.0 GB"])
    room = DiskRoom(role="models", path="/m", free_bytes=812 * GB, total_bytes=2000 * GB)
    assert machine_words(machine, [room]) == (
        "Found here: CPU (8 cores), 64.0 GB of memory, GPU, 24.0 GB; 812.0 GB are free where models go."
    )
    bare = MachineSummary(processor="", cores=1, memory_bytes=GB)
    assert machine_words(bare, []) == "Found here: 1 core, 1.0 GB of memory."


def test_the_welcome_offers_flash_and_pro() -> None:
    def library(*names: str) -> Library:
        machine = MachineSummary(processor="", cores=1, memory_bytes=1)
        offers = [offer(name=name) for name in names]
        return Library(items=[], offers=offers, rooms=[], hub=HubState(endpoint="h"), machine=machine)

    found = welcome_offers(library("tiny", "flash-0731", "flash", "pro-0813", "profound"))
    assert [each.name for each in found] == ["flash-0731", "pro-0813"]
    assert [each.name for each in welcome_offers(library("a", "b", "c"))] == ["a", "b"]
    assert welcome_offers(library()) == []
