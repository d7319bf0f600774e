"""Files that are downloaded, held against a server on this machine."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from labcore.configs.catalogue import BACKBONES
from labcore.configs.run import RunConfig
from labcore.runs.events import Downloading, Event, RunEnded
from labcore.runs.results import fold
from labcore.runs.store import Store
from labcore.tasks.downloads import DownloadError, File, fetch
from labcore.training import loop, worker
from tests.conftest import tiny
from tests.served import Site, site

DATA = os.urandom(3000)


@pytest.fixture
def server() -> Iterator[Site]:
    with site() as found:
        found.files["net.pth"] = DATA
        yield found


def published(server: Site, digest: str | None = None, name: str = "net.pth") -> File:
    return File(f"{server.url}/models/{name}", digest or hashlib.sha256(DATA).hexdigest()[:8], "weights")


def refused(file: File, root: Path) -> str:
    with pytest.raises(DownloadError) as error:
        list(fetch(file, root))
    sentence = str(error.value)
    assert "\n" not in sentence and sentence.endswith(".")
    assert file.name in sentence
    return sentence


@pytest.mark.parametrize(
    "digest",
    [hashlib.sha256(DATA).hexdigest()[:8], hashlib.sha256(DATA).hexdigest(), hashlib.md5(DATA).hexdigest()],
    ids=["start of SHA-256", "SHA-256", "MD5"],
)
def test_a_good_download_is_kept_and_not_asked_for_again(server: Site, tmp_path: Path, digest: str) -> None:
    file = published(server, digest)
    progress = list(fetch(file, tmp_path))
    assert progress[0] == (0, 3000) and progress[-1] == (3000, 3000)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["net.pth"]
    assert file.path(tmp_path).read_bytes() == DATA
    assert list(fetch(file, tmp_path)) == []
    assert server.asked == ["net.pth"]


def test_a_file_put_there_by_hand_is_used(server: Site, tmp_path: Path) -> None:
    file = published(server)
    file.path(tmp_path).parent.mkdir()
    file.path(tmp_path).write_bytes(DATA)
    assert list(fetch(file, tmp_path)) == []
    assert server.asked == []


def test_a_wrong_file_put_there_by_hand_is_told_and_left_alone(server: Site, tmp_path: Path) -> None:
    file = published(server)
    path = file.path(tmp_path)
    path.parent.mkdir()
    path.write_bytes(b"something else")
    sentence = refused(file, tmp_path)
    assert str(path) in sentence and "SHA-256" in sentence and "delete it" in sentence
    assert path.read_bytes() == b"something else"
    path.unlink()
    list(fetch(file, tmp_path))
    assert path.read_bytes() == DATA


def test_a_wrong_download_is_not_kept(server: Site, tmp_path: Path) -> None:
    sentence = refused(published(server, "0" * 32), tmp_path)
    assert "MD5 does not equal" in sentence
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_cut_download_is_not_kept(server: Site, tmp_path: Path) -> None:
    server.lies = 500
    sentence = refused(published(server), tmp_path)
    assert "broke off after 3,000 of 3,500 bytes" in sentence
    assert list((tmp_path / "weights").iterdir()) == []
    server.lies = 0
    assert list(fetch(published(server), tmp_path))[-1] == (3000, 3000)


def test_a_file_that_the_server_does_not_have(server: Site, tmp_path: Path) -> None:
    assert "the server answers 404" in refused(published(server, name="gone.pth"), tmp_path)


def test_offline_names_the_file_where_it_is_from_and_where_to_put_it(tmp_path: Path) -> None:
    with site() as gone:
        file = published(gone)
    sentence = refused(file, tmp_path)
    assert file.url in sentence and str(tmp_path / "weights") in sentence


def test_giving_up_leaves_nothing(server: Site, tmp_path: Path) -> None:
    server.pause = 0.01
    pieces = fetch(published(server), tmp_path)
    next(pieces), next(pieces)
    assert len(list((tmp_path / "weights").iterdir())) == 1
    pieces.close()
    assert list((tmp_path / "weights").iterdir()) == []


def test_what_the_system_installed_is_taken_as_it_is(server: Site, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    file = dataclasses.replace(published(server), installed=installed)
    assert file.path(tmp_path) == tmp_path / "weights" / "net.pth"
    installed.write_bytes(b"the system's")
    assert file.path(tmp_path) == installed
    assert list(fetch(file, tmp_path)) == [] == server.asked


# --- in a run ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pretrained(server: Site, tmp_path: Path, few_answers: object, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A run that needs a download; the server has a MobileNet for it, with an ImageNet head."""
    from torchvision.models import mobilenet_v3_small

    torch.manual_seed(0)
    torch.save(mobilenet_v3_small().state_dict(), tmp_path / "file")
    server.files["mobile.pth"] = (tmp_path / "file").read_bytes()
    digest = hashlib.sha256(server.files["mobile.pth"]).hexdigest()[:8]
    info = BACKBONES["mobilenet_v3_small"]
    file = published(server, digest, "mobile.pth")
    monkeypatch.setitem(BACKBONES, "mobilenet_v3_small", dataclasses.replace(info, weights_file=file))
    return tiny(
        backbone={"name": "mobilenet_v3_small", "start": "pretrained", "image_size": 32},
        tasks=[{"name": "digits:0-1", "images_per_class": 8}],
    )


def test_a_run_downloads_its_weights_once(pretrained: RunConfig, server: Site, store: Store) -> None:
    claim = store.claim_run(store.submit(pretrained).run)
    seen: list[Event] = []
    assert worker.run_claim(claim, "cpu", tell=seen.append).state == "complete"
    told = [event for event in seen if isinstance(event, Downloading)]
    size = len(server.files["mobile.pth"])
    assert (told[0].done, told[-1].done, told[-1].total) == (0, size, size)
    assert seen[0] == told[0]
    assert told[-1].text == "downloading mobile.pth, 100 %"
    folded = fold(told[:1])
    assert folded.downloading == told[0]
    folded.add(told[-1])
    assert folded.downloading is None
    assert (store.root / "weights" / "mobile.pth").is_file()
    assert store.result(claim.run).average_accuracy is not None
    again = list(loop.train(pretrained))
    assert server.asked == ["mobile.pth"]
    assert not any(isinstance(event, Downloading) for event in again)


def test_a_download_that_fails_ends_the_run_with_a_sentence(pretrained: RunConfig, server: Site, store: Store) -> None:
    claim = store.claim_run(store.submit(pretrained).run)
    files, server.files = server.files, {}
    record = worker.run_claim(claim, "cpu")
    assert record.state == "failed"
    assert record.error is not None and "mobile.pth" in record.error and str(store.root / "weights") in record.error
    assert store.result(claim.run).error == record.error
    server.files = files
    store.resume(claim.run)
    assert worker.run_claim(store.claim_run(claim.run), "cpu").state == "complete"


def test_a_stop_is_heeded_while_downloading(pretrained: RunConfig, server: Site, store: Store) -> None:
    server.pause = 0.01  # a minute for the whole file
    claim = store.claim_run(store.submit(pretrained).run)
    record = worker.run_claim(claim, "cpu", tell=lambda event: store.request_stop(claim.run))
    assert record.state == "stopped"
    assert list((store.root / "weights").iterdir()) == []
    last = store.tail(claim.run)[0][-1]
    assert isinstance(last, RunEnded) and last.state == "stopped"
