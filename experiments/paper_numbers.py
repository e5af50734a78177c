"""Numbers published in the CMCLRec paper, printed below our own tables."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Published:
    """One table of the paper.

    Attributes:
        title: number and source of the table.
        values: {method: the twelve numbers of its line}, in the order of COLUMNS.
    """

    title: str
    values: dict[str, tuple[float, ...]]


# Recall and NDCG at 20 on KuaiRec and on XING: overall, cold users, warm users.
COLUMNS = tuple(
    f"{segment} {dataset} {metric}"
    for segment in ("overall", "cold", "warm")
    for dataset in ("KuaiRec", "XING")
    for metric in ("Recall@20", "NDCG@20")
)
NOTE = (
    "Copied from the paper, not reproduced: neither data set can be downloaded, and the paper's "
    "splits of the users differ from those above. The paper does not say which users its overall "
    "column counts. For most methods it lies below both segments, so it is not a mean over their "
    "users."
)

_OURS = {
    "CMCLRec": (
        *(0.0481, 0.0221, 0.2476, 0.2282),
        *(0.0563, 0.0231, 0.4116, 0.2606),
        *(0.0484, 0.0356, 0.4556, 0.3418),
    )
}
BASELINES = Published(
    "Table 1 of Xu et al., SIGIR 2024",
    {
        "DeepMusic": (
            *(0.0375, 0.0186, 0.1876, 0.1683),
            *(0.0394, 0.0192, 0.2691, 0.1606),
            *(0.0414, 0.0285, 0.4205, 0.2946),
        ),
        "DropoutNet": (
            *(0.0252, 0.0092, 0.1733, 0.1507),
            *(0.0306, 0.0143, 0.2773, 0.1953),
            *(0.0367, 0.0271, 0.3034, 0.2182),
        ),
        "MeLU": (
            *(0.0351, 0.0115, 0.1829, 0.1713),
            *(0.0418, 0.0162, 0.2842, 0.2304),
            *(0.0392, 0.0294, 0.4116, 0.3247),
        ),
        "Heater": (
            *(0.0392, 0.0153, 0.2095, 0.1830),
            *(0.0463, 0.0179, 0.3271, 0.2124),
            *(0.0449, 0.0327, 0.3982, 0.2708),
        ),
        "PDMA": (
            *(0.0437, 0.0176, 0.2343, 0.2157),
            *(0.0413, 0.0209, 0.3679, 0.2416),
            *(0.0324, 0.0319, 0.3823, 0.2886),
        ),
        "SDCRec": (
            *(0.0397, 0.0209, 0.2231, 0.1973),
            *(0.0492, 0.0187, 0.3018, 0.2037),
            *(0.0417, 0.0348, 0.3421, 0.2947),
        ),
        **_OURS,
    },
)
VARIANTS = Published(
    "Table 2 of Xu et al., SIGIR 2024",
    {
        "NoDA": (
            *(0.0468, 0.0220, 0.2318, 0.2204),
            *(0.0541, 0.0218, 0.4012, 0.2421),
            *(0.0471, 0.0312, 0.4248, 0.3257),
        ),
        "NoCL": (
            *(0.0476, 0.0217, 0.2361, 0.2143),
            *(0.0422, 0.0162, 0.3758, 0.2270),
            *(0.0473, 0.0334, 0.4409, 0.3215),
        ),
        "None": (
            *(0.0437, 0.0209, 0.2242, 0.1972),
            *(0.0417, 0.0148, 0.3596, 0.2147),
            *(0.0451, 0.0267, 0.4185, 0.2803),
        ),
        **_OURS,
    },
)
