"""``recipe: published``: who has one, what it stands for, and that it is recorded."""

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from sharpminima.catalogue.methods import METHODS
from sharpminima.catalogue.methods.published import PUBLISHED
from sharpminima.catalogue.methods.search import SearchSettings
from sharpminima.cli import app
from sharpminima.pruning import METHODS as PRUNING
from sharpminima.study.read import study_schema
from sharpminima.study.schema import MethodChoice
from sharpminima.testing.methods import check_is_written
from sharpminima.testing.task import small_run


def test_each_published_recipe_belongs_to_its_method_and_to_no_other() -> None:
    assert {name for name, method in METHODS.items() if method.settings.published} == PUBLISHED.keys()
    assert all(METHODS[name].settings.published is recipe for name, recipe in PUBLISHED.items())


@pytest.mark.parametrize("name", PUBLISHED)
def test_one_word_gives_the_authors_settings_and_they_are_recorded(name: str) -> None:
    chosen = MethodChoice.model_validate({"name": name, "recipe": "published"}).root
    plain = MethodChoice.model_validate({"name": name, **PUBLISHED[name].settings}).root
    assert chosen == plain
    recorded = chosen.model_dump(mode="json", by_alias=True)
    for key, value in PUBLISHED[name].settings.items():
        if isinstance(value, dict):
            assert value.items() <= recorded[key].items()
        else:
            assert recorded[key] == value
    assert MethodChoice.model_validate(recorded).root == chosen


def test_what_stands_beside_the_word_counts() -> None:
    settings = METHODS["sparse_momentum"].settings(recipe="published", epochs=3)
    assert (settings.epochs, settings.nesterov, settings.weight_decay, settings.recipe) == (3, True, 5e-4, None)


def test_where_there_is_none_the_word_is_refused_and_the_cure_named() -> None:
    with pytest.raises(ValidationError, match=r"recipe: published is not offered for this method.*give a recipe"):
        METHODS["rigl"].settings(recipe="published")
    with pytest.raises(ValidationError, match="recipe"):
        METHODS["snip"].settings(recipe="publishd")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("random", "it is a control, which has no authors"),
        ("l_half", "66 and LeNet-5 322 times.*what they were trained with is not known here"),
        ("autoprune", "310 times.*what they were trained with is not known here"),
        ("rigl", "what its authors trained LeNet-300 or LeNet-5 on MNIST with is not known here"),
    ],
)
def test_the_refusal_says_why(name: str, why: str) -> None:
    with pytest.raises(ValidationError, match=f"not offered for this method: .*{why}"):
        METHODS[name].settings(recipe="published")


def test_lobster_takes_the_word_though_it_has_no_recipe_of_its_own() -> None:
    settings = METHODS["lobster"].settings(recipe="published", twt=0.5)
    assert (settings.lr, settings.lambda_, settings.twt, settings.pwe) == (0.1, 1e-4, 0.5, 20)


def test_editors_and_the_list_of_methods_know_of_it() -> None:
    offered = {
        definition["properties"]["name"]["const"]
        for definition in study_schema()["$defs"].values()
        if {"const": "published"} in definition.get("properties", {}).get("recipe", {}).get("anyOf", [])
    }
    assert offered == PUBLISHED.keys()
    listed = CliRunner().invoke(app, ["methods"]).output.split("\n")
    for name, method in METHODS.items():
        (first,) = [number for number, line in enumerate(listed) if line.startswith(f"{name} (")]
        published = method.settings.published
        why = f"({published.source})" if published else f"is not offered: {method.settings.not_offered}"
        assert listed[first + 3].strip() == f"recipe: published {why}"
        if issubclass(method.settings, SearchSettings):
            assert "optimiser: " in listed[first + 2]  # SGD is a default that no file records


@pytest.mark.parametrize("name", [name for name in PUBLISHED if issubclass(METHODS[name].settings, SearchSettings)])
def test_the_searches_of_authors_run(name: str) -> None:
    beside = {
        key: value for key, value in {"epochs": 2, "dense": None}.items() if key in METHODS[name].settings.model_fields
    }
    pruned = PRUNING[name].prune(small_run(), METHODS[name].settings(recipe="published", **beside))
    assert pruned.epochs == 2
    check_is_written(PRUNING[name], pruned)
