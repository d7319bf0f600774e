"""The two lines of the house: pages never load torch, the engine never loads Streamlit."""

import pytest

from tests.conftest import in_fresh_process


def loaded(module: str) -> set[str]:
    code = f"import {module}, sys; print(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    return set(in_fresh_process(code).split())


@pytest.mark.parametrize(
    "module",
    [
        "configs.run",
        "configs.presets",
        "runs.events",
        "runs.results",
        "runs.store",
        "runs.stage_cache",
        "runs.stage_keys",
        "drawings.figures",
        "runs.map_files",
        "drawings.inside.registry",
        "tasks.catalogue",
        "tasks.pictures",
        "training.worker",
        "runs.archive",
        "cli.main",
        "runs.energy",
        "runs.settings",
        "studies.explorations",
        "studies.advancing",
        "drawings.explored",
    ],
)
def test_what_pages_use_loads_no_torch(module: str) -> None:
    assert not {"torch", "torchvision", "sklearn", "streamlit", "codecarbon", "optuna"} & loaded(f"labcore.{module}")


def test_pages_read_countries_without_loading_what_measures() -> None:
    used = "labcore.runs.energy; assert len(labcore.runs.energy.countries()) > 200; import labcore.runs.store"
    assert not {"torch", "codecarbon", "pandas"} & loaded(used)


def test_the_kinds_of_map_that_methods_bring_along_load_no_torch() -> None:
    used = "labcore.drawings.inside.registry as kinds; assert 'owners' in kinds.kinds(); import labcore.runs.store"
    assert not {"torch", "streamlit"} & loaded(used)


def test_engine_loads_no_streamlit() -> None:
    assert "streamlit" not in loaded("labcore.training.loop, labcore.training.worker, labcore.cli.main")


def test_torchvision_can_be_imported_after_backbones() -> None:
    assert "torchvision" in loaded(
        "labcore.networks.backbones, torchvision, torchvision.models, torchvision.transforms"
    )
