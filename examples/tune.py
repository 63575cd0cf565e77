# %% [markdown]
# # Tune, select, publish
#
# A whole training run, small enough to watch: it tunes the built-in model on the sample catalogue
# (`fashionclip demo --into sample` makes it), selects a checkpoint by sets that it was not
# trained on, and publishes the model. It needs `pip install 'fashionclip[train]'`.
#
# A run needs sets to measure what the model must not forget. Two tables stand for them here.

# %%
import csv

with open("sample/catalog.csv", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
for column in ("category", "colour"):
    with open(f"sample/by-{column}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "split"])
        for i, row in enumerate(rows):
            writer.writerow([row["image"], row[column], "test" if i % 3 == 0 else "development"])

# %% [markdown]
# A recipe is a TOML file; `builtin` is one of the package. Any key may be set here, by its group
# and name. The run folder holds everything: the same lines resume a run that was killed.

# %%
from pathlib import Path

from fashionclip.train.recipe import read_recipe
from fashionclip.train.run import RunFolder
from fashionclip.train.tune import tune

recipe = read_recipe(
    "builtin",
    {
        ("data", "catalog"): "sample/catalog.csv",
        ("data", "development"): 0.2,
        ("data", "test"): 0.2,
        ("schedule", "batch_size"): 16,
        ("schedule", "steps"): 4,
        ("schedule", "checkpoint_every"): 2,
        ("selection", "sets"): "sample/by-category.csv,sample/by-colour.csv",
        ("selection", "alphas"): "0.5",
    },
)
run = RunFolder(Path("run"))
tuned = tune(recipe, run, cache=Path("cache"))
print(tuned.outcome.status, tuned.outcome.steps, "steps")

# %% [markdown]
# Every candidate was scored: the start, the checkpoints, their average, and interpolations with
# the start. The rule keeps the best retrieval among those that are not worse elsewhere than the
# start.

# %%
print(tuned.choice.chosen.candidate.name, "by the rule", tuned.choice.rule)
report = Path("run/selection.md").read_text("utf-8")
print(report[report.index("| candidate") : report.index("## What each rule")])

# %% [markdown]
# The selected checkpoint against the start, on products that neither training nor selection has
# seen. Four steps change little, and with so few products the intervals are wide: both are said.

# %%
for row in tuned.verdict.comparison.rows:
    if row.is_headline and not row.unseen:
        print(f"{row.task:40} {row.metric:14} {row.old:.3f} {row.new:.3f}  {row.verdict}")

# %% [markdown]
# Publishing writes a folder that `transformers` loads unchanged, with OpenVINO and ONNX files,
# and a card made of what the run measured.

# %%
from fashionclip import FashionCLIP
from fashionclip.publish.publish import publish_run

published = publish_run(run, recipe.publish, pictures=tuned.test_images)
print(sorted(path.name for path in Path(published.place).iterdir()))
print(FashionCLIP(published.place))
