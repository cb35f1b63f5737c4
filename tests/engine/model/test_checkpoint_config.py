"""The configuration of checkpoints: the releases as they are, and what the network cannot run."""

import json
from typing import Any

import pytest

from convert.model_shape import ModelShape
from engine.model.checkpoint_config import network_config
from engine.model.config import Yarn
from engine.model.model_error import ModelError
from tests.convert.released_configs import FLASH, PRO
from tests.convert.seeded_checkpoint import small_config


def shape(base: dict[str, Any], layers: int) -> ModelShape:
    """The shape of a release, cut to its first layers."""
    config = json.loads(json.dumps(base))
    config["num_hidden_layers"] = layers
    config["compress_ratios"] = [*base["compress_ratios"][:layers], 0]
    return ModelShape.from_config(config)


@pytest.mark.parametrize(("base", "layers"), [(FLASH, 43), (PRO, 61)])
def test_the_releases_can_be_run(base: dict[str, Any], layers: int) -> None:
    found = network_config(shape(base, layers))
    assert (len(found.compress_ratios), found.draft_blocks, len(found.expert_clamp)) == (
        layers,
        1,
        layers + 1,
    )
    assert found.yarn == Yarn(16.0, 65536, 32.0, 1.0)
    assert set(found.expert_clamp) == set(found.shared_clamp) == {10.0}
    assert found.compress_ratios.count(4) == (21 if layers == 43 else 30)
    assert found.routed_scaling_factor == (1.5 if layers == 43 else 2.5)


def test_the_stages_of_dspark_are_no_drafter_of_the_network() -> None:
    found = network_config(ModelShape.from_config(small_config(release="0731")), dspark_tensors=241)
    assert (found.draft_blocks, found.dspark_tensors, len(found.expert_clamp)) == (0, 241, 5)


def test_an_indexer_that_no_hadamard_matrix_fits_is_refused() -> None:
    with pytest.raises(
        ModelError, match="its index_head_dim is 96, not a power of two; use a newer Seamount"
    ):
        network_config(ModelShape.from_config(small_config(index_head_dim=96)), name="A")
    # Where nothing is indexed it has no part.
    windows = small_config(layers=2, index_head_dim=96)
    assert network_config(ModelShape.from_config(windows)).index_head_dim == 96
