"""Make a fine-tuned model faster in a rival's way, and keep what that lost and won beside elimination.

    python tests/benchmarks/rivals.py mrpc --model minilm-l6 --data data/mrpc --rival distilbert --strength 3

Every rival starts from the same fine-tuned model (glue.py's, in --cache), is trained on the same texts for as many
epochs, in which a search counts, by the same rate, schedule and batches, and learns from the same dense model. Each
file in rivals/ says what one does, and what else than its paper. --strength is

    layers              distilbert, pkd: that the student has
    a share of heads    head_prune: that is removed
    a FLOPs ratio       elimination, random, first, lat, ltp, tome

random and first keep as many word vectors as elimination does, which is run before. What drops or merges word vectors
has the last layer cut to the first token, which is exact; what doesn't is what its paper makes, and is timed with the
cut besides, but for MPNet without some heads. Speed is measured against the dense model in the same process. LTP drops
as many as a text wants, so that its texts lie packed, one behind the other.

A run leaves rival-TASK-MODEL-RIVAL-STRENGTH-seedS.json in --results, with what else is unusual of it in the name, and
its weights in --cache; one that is there isn't made again without --again. --time-only measures the speed of a result
anew, with weights from --cache, or, where these are gone, with those of --model, on which the time of all but LTP
doesn't depend. render.py shows the results.
"""

from __future__ import annotations

from rivals.driver import main

if __name__ == "__main__":
    main(__doc__)
