import jax

import jaxnet

train, _ = jaxnet.data.load_mnist((0, 1))
device = jax.devices()[0]  # the GPU where there is one; jax.devices("cpu")[0] for the CPU
X = jax.device_put(train.images, device)

# The run goes where its arrays are. Masks and orders are drawn there too, from torch's stream:
generator, keep = jaxnet.random.dropout_mask(jaxnet.random.manual_seed(1), 0.9, (12665, 32))
