"""What pages say of a run whose maps made room, and how they bring them back."""

import os

from labcore.runs import map_files, moments, stored_maps
from labcore.runs.map_files import MapFile
from labcore.runs.store import Store
from tests.conftest import tiny
from tests.kept import trained
from tests.test_pages.conftest import app, played, text


def test_inside_goes_on_where_maps_go_while_it_looks_and_says_how_to_have_them_again(store: Store) -> None:
    run = trained(store, tiny("packnet"))
    os.utime(store.folder(run) / "maps", (100, 100))
    test = app("inside", run=run)
    assert stored_maps.all_of(store)[0].used > 10**18
    many = len(played(test)["moments"])
    assert "no longer stored" not in text(test)
    stored_maps.make_room(store, run, "live")
    test.run()
    assert not test.exception
    assert len(played(test)["moments"]) < many
    assert "live maps are no longer stored" in text(test)
    assert not [button for button in test.button if button.key == "draw-again"]
    stored_maps.make_room(store, run, "stage")
    test.run()
    assert not test.exception
    assert "those of the ends of stages 1, 2 are no longer stored" in text(test)
    assert "No maps of this run were recorded" not in text(test)
    test.button(key="draw-again").click().run()
    assert not test.exception
    assert [button for button in test.button if button.key == "again"]
    assert len(played(test)["moments"]) == 2


def test_inside_shows_what_a_block_makes_of_a_picture_and_says_where_nothing_was_kept(store: Store) -> None:
    run = trained(store, tiny("ewc"))
    test = app("inside", run=run, picture="1.2", block="block1")
    shown = text(test)
    assert shown.count("alt=\\'feature map") + shown.count("alt='feature map") == 8, "four when learnt, four since"
    assert "when Digits" in shown and "Picture 2 of Digits" in shown
    before = moments.name_of(store.fold(run).maps[0])
    assert "is not learnt yet" in text(app("inside", run=run, moment=before))
    ends = sorted((store.folder(run) / "maps").glob("*/*-stage.npz"))
    for path in ends:
        opened = MapFile(path)
        told = {name: opened.read(name) for name in opened.names}
        map_files.save(path, told | {name: told[name][:-1] for name in told if name.startswith("seen/")})
    assert "Its feature maps do not fit together" in text(app("inside", run=run))
    for path in ends:  # as a version of before drew them
        opened = MapFile(path)
        map_files.save(path, {name: opened.read(name) for name in opened.names if not name.startswith("seen")})
    test = app("inside", run=run)
    assert "kept no feature maps" in text(test)
    assert [button for button in test.button if button.key == "features-again"]
    test.button(key="draw-features-again").click().run()
    assert not test.exception
    assert "kept no feature maps" not in text(test)
    assert "feature map" in text(test)


def test_runs_says_what_maps_take_and_where_they_are_gone(store: Store) -> None:
    run = trained(store, tiny())
    assert store.usage()["maps"] == sum(
        path.stat().st_size for path in (store.folder(run) / "maps").rglob("*") if path.is_file()
    )
    assert "maps" in text(app("runs"))
