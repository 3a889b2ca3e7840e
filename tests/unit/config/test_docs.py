"""The page about the file, held against the models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_llmdeploy.config import canary, gates, load, models, release
from pytest_llmdeploy.config.loader import load_config
from pytest_llmdeploy.config.section import Section
from pytest_llmdeploy.config.yaml_reader import read_yaml


@pytest.fixture(scope="module")
def page(pytestconfig: pytest.Config) -> str:
    return (pytestconfig.rootpath / "docs" / "configuration.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "heading_and_model",
    [
        ("service", models.ServiceConfig),
        ("environments", models.EnvironmentConfig),
        ("reference", models.ReferenceConfig),
        ("images", release.ImageConfig),
        ("kind", release.KindConfig),
        ("build", release.BuildConfig),
        ("helm", release.HelmConfig),
        ("health", models.HttpCheck),
        ("smoke", models.SmokeCheck),
        ("gates", gates.SuiteConfig),
        ("openai_evals", gates.OpenAIEvalsConfig),
        ("judge", gates.JudgeConfig),
        ("embeddings", gates.EmbeddingsConfig),
        ("decision", gates.DecisionConfig),
        ("tags", gates.TagGate),
        ("baseline", gates.BaselineConfig),
        ("prices", gates.PriceConfig),
        ("budget", gates.BudgetConfig),
        ("load_limits", load.LoadLimits),
        ("load", load.LoadConfig),
        ("steps", load.RateStep),
        ("prompts", load.PromptsConfig),
        ("clients", load.ClientsConfig),
        ("timeouts", load.TimeoutsConfig),
        ("good", load.GoodConfig),
        ("compare", load.CompareConfig),
        ("blue_green", release.BlueGreenConfig),
        ("resources", release.ResourcesConfig),
        ("probes", release.ProbeConfig),
        ("traffic", release.TrafficConfig),
        ("canary", canary.CanaryConfig),
        ("phases", canary.PhaseConfig),
        ("sla", canary.SlaConfig),
        ("canary: compare", canary.CompareConfig),
        ("router", canary.RouterConfig),
        ("metrics", canary.MetricsConfig),
        ("prometheus", canary.PrometheusConfig),
        ("warm_up", canary.WarmUpConfig),
        ("quality", canary.QualityConfig),
        ("rollback", release.RollbackConfig),
        ("policy", models.PolicyConfig),
    ],
    ids=lambda pair: pair[0],
)
def test_each_table_has_the_keys_of_its_section(
    page: str, heading_and_model: tuple[str, type[Section]]
) -> None:
    heading, model = heading_and_model
    section = re.split(r"^#+ ", page.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.M)[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = [key for cell in first_cells for key in re.findall("`(.*?)`", cell)]
    assert listed == [field.alias or name for name, field in model.model_fields.items()]


def test_the_example_loads(page: str, tmp_path: Path) -> None:
    file = tmp_path / "llmdeploy.yaml"
    file.write_text(page.split("```yaml\n")[1].split("```", maxsplit=1)[0])
    assert set(read_yaml(file, 10_000).data) == {"service", "environments", "gates"}
    assert load_config(file, "staging", {}).service.timeout == 20
