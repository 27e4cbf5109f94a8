"""One step of fitting a generator and its encoder to footage, and the state that it changes."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from svgan_ray.errors import ConfigError, DataError, DivergenceError
from svgan_ray.latents.windows import seeded
from svgan_ray.stylegan.encoder import Encoder
from svgan_ray.stylegan.fitting.config import FittingConfig, fastest_precision
from svgan_ray.stylegan.fitting.discriminator import PatchDiscriminator
from svgan_ray.stylegan.fitting.losses import (
    PerceptualDistance,
    adversarial_loss,
    discriminator_loss,
    energy_loss,
    r1_penalty,
    reconstruction_loss,
)
from svgan_ray.stylegan.fitting.regions import region_weights
from svgan_ray.stylegan.generator import Generator
from svgan_ray.stylegan.resize import resize_antialiased
from svgan_ray.stylegan.weights import require_pair
from svgan_ray.temporal.workers import ALONE, Workers

__all__ = ["Batch", "Fitter", "crop_side"]

M = TypeVar("M", bound=nn.Module)

_BETAS = (0.9, 0.99)
_R1_EVERY = 8  # steps; the penalty is multiplied by it (lazy regularisation, Karras et al., 2020)


@dataclass(frozen=True, eq=False)
class Batch:
    """This worker's slice of a step's images.

    crops   [N, S, S, 3] uint8, S = `crop_side(generator, encoder)`
    boxes   [N, 2, 4] eyes and mouth, in shares of the side (`regions_of`, `fixed_regions`)
    w_plus  [N, num_ws, w_dim] the stored latents; needed where the generator alone is tuned
    """

    crops: Tensor
    boxes: Tensor
    w_plus: Tensor | None = None

    def __len__(self) -> int:
        return len(self.crops)

    def parts(self, count: int) -> Iterator[Batch]:
        """The batch in parts of at most `count` images."""
        for first in range(0, len(self), count):
            rows = slice(first, first + count)
            w_plus = None if self.w_plus is None else self.w_plus[rows]
            yield Batch(self.crops[rows], self.boxes[rows], w_plus)


def crop_side(generator: Generator, encoder: Encoder) -> int:
    """Side of the crops of a fit in pixels: the larger of the picture's side and the encoder's input side."""
    return max(generator.config.resolution, encoder.config.input_side)


class Fitter:
    """Generator and encoder of one fit, with everything that training changes.

    Both networks are changed in place. `perceptual` is a distance between two batches of pictures; it is used
    if `config.perceptual_weight` is above 0. Several workers each call `train_step` with their slice
    (`workers.slice(config.batch)`) of the same global batch and arrive at the same weights.

    Raises ConfigError, and WeightsError if generator and encoder do not fit each other.
    """

    def __init__(
        self,
        generator: Generator,
        encoder: Encoder,
        config: FittingConfig,
        device: torch.device | str = "cpu",
        workers: Workers = ALONE,
        perceptual: PerceptualDistance | None = None,
    ) -> None:
        _require_sense(generator, encoder, config, workers, perceptual)
        if config.precision == "auto":
            config = dataclasses.replace(config, precision=fastest_precision(device))
        self.config, self.device, self.workers = config, torch.device(device), workers
        self.perceptual, self.step = perceptual, 0
        self.best_db: float | None = None
        self.generator = _channels_last(generator.to(self.device)).requires_grad_(False)
        self.encoder = _channels_last(encoder.to(self.device))
        self.dtype = next(generator.parameters()).dtype
        self.generator.synthesis.requires_grad_(True)
        self.encoder.requires_grad_(config.what == "both")
        # Normalisation statistics are frozen, so that an image's latents never depend on its batch.
        self.encoder.eval()
        self.ancestor: Generator | None = None
        if config.what == "generator" and config.locality_weight > 0:
            self.ancestor = copy.deepcopy(self.generator).requires_grad_(False)
        self.discriminator: PatchDiscriminator | None = None
        if config.adversarial_weight > 0:
            self.discriminator = self._new_discriminator()
        self._optimisers = self._new_optimisers()

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One step on this worker's slice of the global batch; returns the losses as means over all workers.

        Raises DivergenceError if a loss is not finite, DataError if the slice has the wrong size or type.
        """
        self._check(batch)
        self._set_rates()
        sums: dict[str, Tensor] = {}
        networks = self._optimisers["networks"]
        networks.zero_grad(set_to_none=True)
        pictures = [self._accumulate(part, sums) for part in batch.parts(self.config.micro_batch)]
        self._accumulate_locality(sums)
        self._update(networks)
        if self.discriminator is not None:
            self._train_discriminator(torch.cat(pictures), self.images(batch.crops), sums)
        means = self._means(sums)
        self.step += 1
        return means

    def images(self, crops: Tensor) -> Tensor:
        """Crops [N, S, S, 3] uint8 -> [N, 3, S, S] in [-1, 1] on the device, channels last in memory."""
        pixels = crops.to(self.device).permute(0, 3, 1, 2)
        return pixels.to(self.dtype).div(127.5).sub(1)

    def reconstruct(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(pictures, images) [N, 3, R, R] of the current networks, without gradients.

        They are computed in full precision. The latents are the encoder's, or the stored ones if the
        generator alone is tuned.
        """
        with torch.inference_mode():
            images = self.images(batch.crops)
            w_plus = self._w_plus(images, batch.w_plus)
            return self.generator.synthesis(w_plus), self._targets(images)

    def modules(self) -> dict[str, nn.Module]:
        """The modules that training changes, by name."""
        modules: dict[str, nn.Module] = {"generator": self.generator}
        if self.config.what == "both":
            modules["encoder"] = self.encoder
        if self.discriminator is not None:
            modules["discriminator"] = self.discriminator
        return modules

    def optimisers(self) -> dict[str, torch.optim.Adam]:
        """The optimisers by name."""
        return self._optimisers

    def _accumulate(self, part: Batch, sums: dict[str, Tensor]) -> Tensor:
        """Adds the gradients of some images; returns their pictures."""
        images = self.images(part.crops)
        with self._autocast():
            w_plus = self._w_plus(images, part.w_plus).to(self.dtype)
            pictures: Tensor = self.generator.synthesis(w_plus).to(self.dtype)
        targets = self._targets(images)
        losses = self._losses(pictures, targets, part.boxes.to(self.device))
        self._backward(losses, self.config.batch, sums)
        return pictures.detach()

    def _losses(self, pictures: Tensor, images: Tensor, boxes: Tensor) -> dict[str, tuple[float, Tensor]]:
        """The losses [N] and their weights, by name."""
        config = self.config
        weight = region_weights(boxes, images.shape[-1], config.eye_weight, config.mouth_weight)
        losses = {"reconstruction": (1.0, reconstruction_loss(pictures, images, weight.to(self.dtype)))}
        if config.energy_weight > 0:
            losses["energy"] = (config.energy_weight, energy_loss(pictures, images))
        if self.perceptual is not None and config.perceptual_weight > 0:
            losses["perceptual"] = (config.perceptual_weight, self.perceptual(pictures, images))
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
            losses["adversarial"] = (
                config.adversarial_weight,
                adversarial_loss(self.discriminator, pictures),
            )
        return losses

    def _accumulate_locality(self, sums: dict[str, Tensor]) -> None:
        """Adds the gradients of the locality loss: the pictures of other latents must stay as they were."""
        if self.ancestor is None:
            return
        count, config = self.config.locality_batch, self.config
        draws = seeded("locality", config.seed, self.step)
        z = torch.randn(count, self.generator.config.z_dim, generator=draws)
        own = z[self.workers.slice(count)].to(self.device, self.dtype)
        for z in own.split(config.micro_batch):
            with self._autocast():
                w_plus = self.generator.mapping(z)
                with torch.no_grad():
                    before = self.ancestor.synthesis(w_plus).to(self.dtype)
                after = self.generator.synthesis(w_plus).to(self.dtype)
            even = torch.ones_like(before[:, :1])
            loss = reconstruction_loss(after, before, even)
            self._backward({"locality": (config.locality_weight, loss)}, count, sums)

    def _train_discriminator(self, pictures: Tensor, images: Tensor, sums: dict[str, Tensor]) -> None:
        discriminator, optimiser = self.discriminator, self._optimisers["discriminator"]
        assert discriminator is not None
        discriminator.requires_grad_(True)
        optimiser.zero_grad(set_to_none=True)
        images = self._targets(images)
        losses = {"discriminator": (1.0, discriminator_loss(discriminator, pictures, images))}
        if self.step % _R1_EVERY == 0 and self.config.r1_weight > 0:
            losses["r1"] = (self.config.r1_weight * _R1_EVERY, r1_penalty(discriminator, images))
        self._backward(losses, self.config.batch, sums)
        self._update(optimiser)

    def _backward(self, losses: dict[str, tuple[float, Tensor]], count: int, sums: dict[str, Tensor]) -> None:
        """Add these samples' part of the gradients of the weighted mean over a global batch of `count`."""
        total = torch.stack([weight * loss.sum() for weight, loss in losses.values()]).sum() / count
        total.backward()
        for name, (_, loss) in losses.items():
            sums[name] = sums.get(name, torch.zeros((), device=self.device)) + loss.detach().sum() / count

    def _update(self, optimiser: torch.optim.Adam) -> None:
        self.workers.sum_gradients(p for group in optimiser.param_groups for p in group["params"])
        optimiser.step()

    def _w_plus(self, images: Tensor, stored: Tensor | None) -> Tensor:
        if self.config.what == "both":
            return self.encoder.encode(images, self.generator.synthesis)
        assert stored is not None
        return stored.to(self.device, self.dtype)

    def _targets(self, images: Tensor) -> Tensor:
        return resize_antialiased(images, self.generator.config.resolution)

    def _means(self, sums: dict[str, Tensor]) -> dict[str, float]:
        values = self.workers.sum(torch.stack(list(sums.values())).double())
        means = dict(zip(sums, values.tolist(), strict=True))
        if not values.isfinite().all():
            raise DivergenceError(
                f"fitting: expected finite losses at step {self.step}, got {means}; lower the learning rates"
            )
        return means

    def _set_rates(self) -> None:
        share = self.config.rate_share(self.step)
        for optimiser in self._optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = share * group["full_rate"]

    def _new_discriminator(self) -> PatchDiscriminator:
        with torch.random.fork_rng([]):
            torch.manual_seed(self.config.seed)
            discriminator = PatchDiscriminator(self.generator.config.img_channels)
        return _channels_last(discriminator.to(self.device, self.dtype))

    def _new_optimisers(self) -> dict[str, torch.optim.Adam]:
        config = self.config
        groups = [_group(self.generator.synthesis, config.synthesis_rate)]
        if config.what == "both":
            groups.append(_group(self.encoder, config.encoder_rate))
        optimisers = {"networks": torch.optim.Adam(groups, betas=_BETAS)}
        if self.discriminator is not None:
            group = _group(self.discriminator, config.discriminator_rate)
            optimisers["discriminator"] = torch.optim.Adam([group], betas=(0.0, 0.99))
        return optimisers

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        is_half = self.config.precision == "bfloat16" and self.dtype == torch.float32
        with torch.autocast(self.device.type, torch.bfloat16, enabled=is_half):
            yield

    def _check(self, batch: Batch) -> None:
        own = self.workers.slice(self.config.batch)
        side, count = crop_side(self.generator, self.encoder), own.stop - own.start
        if batch.crops.dtype != torch.uint8 or batch.crops.shape != (count, side, side, 3):
            raise DataError(
                f"fitting: expected crops uint8 {[count, side, side, 3]}, got {batch.crops.dtype} "
                f"{list(batch.crops.shape)}"
            )
        if self.config.what == "generator" and batch.w_plus is None:
            raise DataError("fitting: tuning the generator needs the stored latents of each crop, got none")


def _channels_last(module: M) -> M:
    """Convolutions run faster in this memory format, on a CPU much faster."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _group(module: nn.Module, rate: float) -> dict[str, object]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    return {"params": parameters, "lr": rate, "full_rate": rate}


def _require_sense(
    generator: Generator,
    encoder: Encoder,
    config: FittingConfig,
    workers: Workers,
    perceptual: PerceptualDistance | None,
) -> None:
    require_pair(generator, encoder)
    if config.batch < workers.world:
        raise ConfigError(
            f"fitting batch: expected at least one image for each of {workers.world} workers, "
            f"got {config.batch}"
        )
    if config.perceptual_weight > 0 and perceptual is None:
        raise ConfigError("fitting perceptual_weight: is above 0, but no perceptual distance was given")
