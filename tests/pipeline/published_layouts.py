"""Writes synthetic files in the exact layouts in which datasets are published."""

import datetime

import numpy as np

KUAIREC_LOG = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"
KUAIREC_USERS = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,"
    "follow_user_num,follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,"
    "friend_user_num_range,register_days,register_days_range,"
    + ",".join(f"onehot_feat{n}" for n in range(18))
)
TA_FENG = (
    "TRANSACTION_DT,CUSTOMER_ID,AGE_GROUP,PIN_CODE,PRODUCT_SUBCLASS,PRODUCT_ID,AMOUNT,ASSET,"
    "SALES_PRICE"
)
XING_LOG = ("user_id", "item_id", "interaction_type", "created_at")
XING_USERS = (
    "id",
    "jobroles",
    "career_level",
    "discipline_id",
    "industry_id",
    "country",
    "region",
    "experience_n_entries_class",
    "experience_years_experience",
    "experience_years_in_current",
    "edu_degree",
    "edu_fieldofstudies",
    "wtcj",
    "premium",
)
XING_PREFIX = {
    "interactions.csv": "recsyschallenge_v2017_interactions_final_anonym_training_export.",
    "users.csv": "recsyschallenge_v2017_users_final_anonym_export_unique.",
}


def write_kuairec(folder, n_users=60, n_items=30, seed=0):
    """Writes `data/small_matrix.csv` and `data/user_features.csv`.

    Every fifth view has no time, every seventh row is repeated, and half of the views are short.

    Returns:
        `[(user, video, time as text, watch ratio)]`, the rows of the log in order.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(n_users):
        for video in rng.choice(n_items, 16, replace=False):
            seconds = 1593878903 + int(rng.integers(1e6)) + round(float(rng.random()), 3)
            ratio = 2.0 if rng.random() < 0.1 else round(float(rng.random() * 4), 4)
            rows.append((user, int(video), seconds if len(rows) % 5 else "", ratio))
            if len(rows) % 7 == 0:
                rows.append(rows[-1])
    log = [KUAIREC_LOG]
    for user, video, at, ratio in rows:
        when = "2020-07-05 00:08:23.438,20200705" if at else ","
        log.append(f"{user},{video},{int(ratio * 9000)},9000,{when},{at},{ratio}")
    users = [KUAIREC_USERS]
    for user in range(n_users):
        codes = [str(int(rng.integers(9))) for _ in range(4)]
        floats = ["" if rng.random() < 0.1 else f"{int(rng.integers(3))}.0" for _ in range(14)]
        degree = "full_active" if user % 3 else "UNKNOWN"
        users.append(
            f'{user},{degree},0,{0 if user % 4 else -124},{user % 2},5,"(0,10]",4,"[1,10)",0,0,'
            f"{107 + user},61-90,{','.join(codes + floats)}"
        )
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "small_matrix.csv").write_text("\n".join(log) + "\n")
    (folder / "data" / "user_features.csv").write_text("\n".join(users) + "\n")
    return rows


def write_ta_feng(folder, n_users=60, n_items=30, seed=0):
    """Writes `ta_feng_all_months_merged.csv`: baskets of several items a day, some bought again.

    The age of every seventh customer is missing, and the area of every fifth is unknown.

    Returns:
        `[(customer, product, day)]`, the rows in the order of the file, which is not by day.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in rng.permutation(n_users):
        for days in rng.choice(120, 3, replace=False):
            day = datetime.date(2000, 11, 1) + datetime.timedelta(int(days))
            for item in rng.choice(n_items, rng.integers(1, 5), replace=False):
                rows.append((f"{user:08}", f"471{item:010}", day))
    lines = [TA_FENG.split(",")]
    for user, item, day in rows:
        age = "" if int(user) % 7 == 0 else ("<25", "25-29", ">65")[int(user) % 3]
        area = "Unknown" if int(user) % 5 == 0 else ("115", "221", "Others")[int(user) % 3]
        date = f"{day.month}/{day.day}/{day.year}"
        lines.append((date, user, age, area, "110411", item, "2", "24", "30"))
    text = "".join(",".join(f'"{value}"' for value in line) + "\r\n" for line in lines)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ta_feng_all_months_merged.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    return rows


def write_xing(folder, prefixed, n_users=60, n_items=30, seed=0):
    """Writes `users.csv` and `interactions.csv`, with or without table names in the headers.

    Returns:
        `[(user, item, type, time)]`, the rows of the log in order.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(1, n_users + 1):
        for item in rng.choice(n_items, 14, replace=False):
            kind, at = int(rng.integers(6)), 1478508800 + int(rng.integers(1e6))
            rows.append((user, int(item), kind, at))
            if len(rows) % 7 == 0:
                rows.append(rows[-1])
    users = [
        (user, "0" if user % 5 == 0 else f"{user % 9 + 1},{user % 4 + 20}", user % 7, user % 24,
         user % 3, "de", user % 16, 1, 2, user % 4, user % 3,
         "NULL" if user % 2 else "3,5", user % 2, 0)
        for user in range(1, n_users + 1)
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"interactions.csv": (XING_LOG, rows), "users.csv": (XING_USERS, users)}
    for name, (columns, values) in tables.items():
        prefix = XING_PREFIX[name] if prefixed else ""
        lines = [[f"{prefix}{column}" for column in columns], *values]
        text = "".join("\t".join(map(str, line)) + "\n" for line in lines)
        (folder / name).write_text(text)
    return rows
