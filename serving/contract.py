"""Defines the names and defaults that the exporter, the server and the clients agree on."""

# Signatures of the exported SavedModel.
WARM = "warm"
COLD = "cold"
SERVING_DEFAULT = "serving_default"
USER_EMBEDDING = "user_embedding"
SIMULATED_HISTORY = "simulated_history"
SIGNATURES = (WARM, COLD, SERVING_DEFAULT, USER_EMBEDDING, SIMULATED_HISTORY)

# Their outputs. The inputs are user features and the names in cmclrec_tf.schema.
ITEM_IDS = "item_ids"
SCORES = "scores"
IS_COLD = "is_cold"
KNOWN_ITEMS = "known_items"
EMBEDDING = "embedding"

# Score of the places of a list where no item is left: the lowest float32.
LOWEST_SCORE = -3.4028234663852886e38

# Number of items that `simulated_history` returns for each position, if there are so many.
NEAREST_ITEMS = 5

# Where a model is served by default, and where its versions are.
HOST = "127.0.0.1"
PORT = 8500  # gRPC
MODEL_NAME = "cmclrec"
MODEL_BASE_PATH = f"var/serving/{MODEL_NAME}"

# Largest gRPC message or JSON body, in bytes.
MESSAGE_BYTES = 64 * 2**20

# File inside a version's folder from which TensorFlow Serving takes warmup requests.
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
