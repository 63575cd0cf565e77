"""The metrics of audits, described. Chance is in the result, or 0 for paired differences."""

from fashionclip.metrics.metric import Metric

AUDIT_METRICS: tuple[Metric, ...] = (
    Metric(
        "association",
        "Association with men's products",
        "mean cosine of neutral queries with men's products less that with women's of the same "
        "article type; above 0, they are nearer to men's",
    ),
    Metric(
        "max_skew",
        "MaxSkew",
        "largest ln(share among the first {k} / share of the article type) of any group, mean over "
        "types; by chance above 0",
        higher_is_better=False,
    ),
    Metric(
        "ndkl",
        "NDKL",
        "divergence of the groups' shares of the first {k} places from their shares of the article "
        "type, in nats, mean over types; by chance above 0",
        higher_is_better=False,
    ),
    Metric(
        "bias",
        "Bias",
        "men's less women's products over both, (m - w) / (m + w), among the first {k}, "
        "mean over article types; chance is the shop's own",
    ),
    Metric(
        "overlap_gap",
        "Read as men's",
        'first {k} places that "shirts" shares with "shirts for men", less those with "shirts for '
        'women", mean over article types',
        chance=0.0,
    ),
    Metric(
        "hit_gap",
        "Gap of the hit rate",
        "share found by their titles among the first {k}, of men's or dear products less women's "
        "or cheap ones of the same article type",
        chance=0.0,
    ),
    Metric(
        "neutral_title",
        "Without the word of gender",
        "change of the share found among the first {k} where titles lack words such as Men, paired",
        chance=0.0,
    ),
    Metric(
        "ground_drop",
        "Drop on other grounds",
        "one less the cosine of a product on another ground with itself on white; chance is "
        "another product of its article type",
        higher_is_better=False,
    ),
    Metric(
        "place_drop",
        "Drop off centre or smaller",
        "one less the cosine of a product shrunk and moved with itself in its own place; chance is "
        "another product of its article type",
        higher_is_better=False,
    ),
    Metric(
        "cut_out_drop",
        "Drop by cutting out",
        "one less the cosine of the shop's picture with its cut-out on white, near 0 where "
        "cutting changes nothing",
        chance=0.0,
        higher_is_better=False,
    ),
    Metric(
        "ground_flips",
        "Flips on other grounds",
        "share of products whose zero-shot article type is another one than on white",
        chance=0.0,
        higher_is_better=False,
    ),
    Metric(
        "place_flips",
        "Flips off centre or smaller",
        "share of products whose zero-shot article type is another one than in its own place",
        chance=0.0,
        higher_is_better=False,
    ),
    Metric(
        "ground_hit_change",
        "Change found on other grounds",
        "share found by their titles among the first {k} less the share on white, paired",
        chance=0.0,
    ),
    Metric(
        "place_hit_change",
        "Change found off centre or smaller",
        "share found by their titles among the first {k} less the share in their own place, paired",
        chance=0.0,
    ),
    Metric(
        "long_gain",
        "Long less short queries",
        "share found among the first {k} by 21 to 60 words less that by 4 to 8, paired",
        chance=0.0,
    ),
    Metric(
        "long_mrr_gain",
        "MRR, long less short queries",
        "reciprocal rank within the first {k} by 21 to 60 words less that by 4 to 8, paired",
        chance=0.0,
    ),
    Metric(
        "middle_gain",
        "Short less shortest queries",
        "share found among the first {k} by 4 to 8 words less that by at most 3, paired",
        chance=0.0,
    ),
    Metric(
        "long_type_gain",
        "Right article type, long less shortest",
        "share of the first {k} with the article type asked for, by 21 to 60 words less that by at "
        "most 3, paired; below 0, long queries lose sight of the garment",
        chance=0.0,
    ),
    Metric(
        "type_change",
        "Garment beside a brand",
        "share of the first {k} with the article type asked for in 'BRAND TYPE' less that in "
        "'TYPE', of garments that the brand sells; below 0, the brand drowns the garment",
        chance=0.0,
    ),
    Metric(
        "unsold_type_change",
        "Garment beside a brand without it",
        "the same of garments that the brand does not sell",
        chance=0.0,
    ),
    Metric(
        "colour_change",
        "Colour beside a brand",
        "share of the first {k} with the colour asked for in 'BRAND COLOUR TYPE' less that in "
        "'COLOUR TYPE'; below 0, the brand drowns the colour",
        chance=0.0,
    ),
    Metric(
        "brand_share",
        "Products of the brand",
        "share of the first {k} for 'BRAND TYPE' that are of the brand, of garments that it sells",
    ),
)
