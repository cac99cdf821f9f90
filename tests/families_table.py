"""Write the table in docs/families.md: what the adapters and transformers say of each family."""

from pathlib import Path

from transformers import AutoConfig
from transformers.models.auto import modeling_auto

from wordelim.adapters import Family, families

DOCUMENT = Path(__file__).parent.parent / "docs" / "families.md"
START, END = "<!-- table -->\n", "<!-- /table -->\n"
TASKS = {
    "sequence": ("ForSequenceClassification", modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
    "choice": ("ForMultipleChoice", modeling_auto.MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES),
    "tokens": ("ForTokenClassification", modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES),
    "answers": ("ForQuestionAnswering", modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES),
}


def row(family: Family) -> str:
    name = type(AutoConfig.for_model(family.model_type)).__name__.removesuffix("Config")
    served = [
        "yes" if ending in family.heads and family.model_type in classes else "-" for ending, classes in TASKS.values()
    ]
    return f"| {name} | `{family.model_type}` | {' | '.join(served)} | yes | packed, padded | ONNX, OpenVINO |\n"


def table() -> str:
    head = ("family", "`model_type`", "sequence classification", "multiple choice", "token classification",
            "question answering", "no head", "layouts", "export")  # fmt: skip
    lines = [f"| {' | '.join(head)} |\n", f"|{' --- |' * len(head)}\n"]
    return "".join([*lines, *map(row, families())])


def renewed(text: str) -> str:
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(renewed(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
