# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00b · Contrastive learning from scratch, in the plane
#
# **Purpose.** Write InfoNCE, the loss behind StarCLIP, in a few lines, watch it work in two dimensions, and see with your
# own eyes what the temperature does and why false negatives hurt.
#
# **The figure to remember.** The same sixty stars trained at four temperatures.
#
# **After this notebook you can** derive the loss, write it from memory, choose a temperature for a reason, and recognise
# a batch that will spoil a training.
#
# **Before this:** Python with NumPy; that a network is trained by following gradients downhill.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | nothing; some PyTorch helps | figures only | 11 seconds | 2026-12-01 |

# %%
# %matplotlib inline
import starclip_lib as starclip  # before torch, whose threads then sleep while they wait

import torch
import torch.nn.functional as F
from IPython.display import Markdown

from starclip_lib import figures
from starclip_lib.models.contrastive import info_nce
from starclip_lib.teaching.toy import ToySurvey, align_toy, observe_toy, toy_encoder, toy_scores
from starclip_lib.lab.widgets.base import FigureSlider

torch.set_num_threads(1)  # networks this small gain little from more, and lose much where others compute, too

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"seed": 8}

# %%
run = starclip.open_run(params_file, overrides)
generator = torch.Generator().manual_seed(run.params.seed)

# %% [markdown]
# ## A toy sky
#
# Sixty stars, five kinds of twelve. All there is to know about a star is one hidden angle, and stars of one kind have
# similar angles. Two instruments measure two numbers of each star: the first sees the circle of angles as it is, the second
# sees it turned and dented. Both add noise, new at every look. We do not know the angle; we only know which two
# measurements belong to the same star. Can we bring the instruments into one space?

# %%
survey = ToySurvey.draw(n_groups=5, per_group=12, seed=run.params.seed)
n = len(survey.group)

# %% [markdown]
# ## The loss, line by line
#
# Each instrument gets an **encoder**, here a network with two small hidden layers, whose output is brought to length one:
# a seat on the unit circle. Take a batch of $n$ stars and ask, from the seat of star $i$ as the first instrument sees it,
# which of the $n$ seats of the second instrument is its partner. The guess is a probability that grows with the cosine
# $s_{ij}$ between the seats, and the temperature $\tau$ says how fast:
#
# $$p_{ij} = \frac{\exp(s_{ij}/\tau)}{\sum_k \exp(s_{ik}/\tau)}, \qquad \mathcal{L} = -\frac{1}{n}\sum_i \log p_{ii}.$$
#
# That is all. It is the cross-entropy of a quiz with $n$ answers, in which the right answer to question $i$ is number $i$.
# Asking from the second instrument's side as well and taking the mean makes it symmetric. It is called InfoNCE.

# %%
encoders = [toy_encoder(generator), toy_encoder(generator)]
z_a, z_b = F.normalize(encoders[0](survey.a)), F.normalize(encoders[1](survey.b))

# %%
temperature = 0.1
logits = z_a @ z_b.T / temperature  # the cosines of all pairs, (n, n)
log_p = logits - logits.logsumexp(dim=1, keepdim=True)
log_q = logits - logits.logsumexp(dim=0, keepdim=True)  # asked from the other side
loss = -(log_p.diagonal().mean() + log_q.diagonal().mean()) / 2

# %% [markdown]
# Two checks before we trust it. If all seats are the same, every answer is as likely as any other, and the loss must be
# $\log n$. And the package's own function, which the rest of the project uses, must give the same number as ours.

# %% tags=["nbval-check-output"]
seats = torch.ones(n, 2) / 2**0.5
collapsed, ours, packaged = info_nce(seats, seats, 1 / temperature), loss, info_nce(z_a, z_b, 1 / temperature)
print(f"all seats equal: a loss of {collapsed:.3f}; log {n} = {torch.tensor(n).log():.3f}")
print(f"our loss and the package's differ by {abs(ours - packaged).item():.3f}")

# %% [markdown]
# ## Thirty lines that align two instruments
#
# The loop below is complete. Look at every star with fresh noise, seat it, compute the loss, and let the optimiser move
# the weights of both encoders a little. Nothing in it knows about angles or kinds of stars.

# %%
moments, losses = {}, []
weights = [weight for encoder in encoders for weight in encoder.parameters()]
optimizer = torch.optim.Adam(weights, lr=0.005)
for step in range(601):
    z_a = F.normalize(encoders[0](observe_toy(survey.a, generator)))
    z_b = F.normalize(encoders[1](observe_toy(survey.b, generator)))
    if step in (0, 30, 600):
        moments[f"after {step} steps"] = (z_a.detach().numpy(), z_b.detach().numpy())
    logits = z_a @ z_b.T / temperature
    target = torch.arange(n)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

# %%
run.save_figure("toy_training", figures.groups_on_circles(moments, survey.group))

# %% [markdown]
# Dots are the first instrument's seats, squares the second's, a line joins the two of a star, the colour is its kind. At
# first the encoders know nothing and most lines cross the circle. In the end partners sit face to face. And something
# came for free: stars of one kind sit together, although *the loss does not know that there are kinds*. Similar stars have
# similar measurements, and a smooth network cannot seat them far apart.

# %%
scores = toy_scores(*moments["after 600 steps"], survey.group)
print(f"the nearest seat is that of the right star for {scores['right star first']:.0%}, of the right kind for "
      f"{scores['right group first']:.0%}")  # fmt: skip
print(f"the loss fell from {losses[0]:.2f} to {losses[-1]:.2f}")

# %% [markdown]
# ## What temperature does
#
# The paper says it in one paragraph (its section 2.2.2): a small $\tau$ cares about the *hard* negatives, those that sit
# close by, and pushes them away; a large $\tau$ hardly distinguishes near from far and leaves similar stars together. We can
# watch it. The same sky, the same first weights, four temperatures.

# %%
temperatures = (0.1, 0.3, 1.0, 3.0)
results = {f"τ = {tau:g}": align_toy(survey, tau, run.params.seed) for tau in temperatures}

# %%
run.save_figure("toy_temperatures", figures.groups_on_circles(results, survey.group))

# %%
width = [toy_scores(*seats, survey.group)["angle within a group"] for seats in results.values()]
scale = run.params.starclip.logit_scale
assert width[-1] < width[0], "a high temperature should crowd the stars of a kind"
Markdown(
    f"The stars of a kind are {width[0]:.1f}° apart at τ = {temperatures[0]:g} and {width[-1]:.1f}° at "
    f"τ = {temperatures[-1]:g}: from left to right they crowd together. For finding the *same star* again one wants them "
    f"spread. The stars of this run start at a `logit_scale` of {scale:g}, which is τ = {1 / scale:g}, in a space whose "
    "cosines all lie close to 1 (notebook 04)."
)

# %% [markdown]
# For sorting stars into *kinds* the crowd is welcome. What the paper calls "τ = 15.5" is a factor on the cosines, that is
# $1/\tau$, and so $\tau = 0.065$.
#
# Move the slider yourself (it needs a running notebook). Each stop shows the
# training above at that temperature.

# %%
stops = {name: figures.groups_on_circles({name: seats}, survey.group) for name, seats in results.items()}
FigureSlider("temperature", stops)

# %% [markdown]
# ## Why false negatives hurt
#
# A *negative* is every other star in the batch. What if one of them is the same star, seen a second time? The loss does
# not know and pushes the two apart, while the smooth encoder wants them in one place. We can see the push itself: the
# gradient on the seats. Take one star three times, with three others, in a perfect arrangement in which partners sit on
# top of each other.

# %%
angle = torch.tensor([0.0, 0.05, -0.05, 1.6, 3.1, 4.7])  # the first three are one star
star = torch.tensor([0, 0, 0, 1, 2, 3])
seats = torch.stack([angle.cos(), angle.sin()], dim=1).requires_grad_()
push = {}
for title, known in (("copies as negatives", None), ("copies masked", star)):
    (gradient,) = torch.autograd.grad(info_nce(seats, seats.detach(), 10.0, known), seats)
    push[title] = gradient[:3].norm(dim=1).mean().item()

# %% tags=["nbval-check-output"]
for title, strength in push.items():
    print(f"{title}: the mean push on the three copies is {strength:.3f}")

# %% [markdown]
# All that push is wrong: the three seats *should* coincide. The paper repeats each star five times and lets copies be each
# other's negatives. In its batches of 16 out of 59,375 pairs that hardly ever happens; in a batch of 512 out of 12,500 there
# are about forty such pairs. So we mask pairs of the same star (`same_star: masked`), the last argument of `info_nce`. (With
# corruptions drawn afresh in each epoch, our default, a star appears once per epoch and there is nothing to mask.)
# Notebook [04](04_starclip.ipynb) trains both ways on stars, at seven temperatures, and counts how many are found.
#
# Copies as negatives also give the loss a floor: with $m$ copies that cannot be told apart, even a perfect arrangement has
# a loss of $\log m$ for each question. A loss that stops falling need not mean that nothing is learned.
#
# ## Exercises
#
# **1.** What is the loss of our sixty stars if all seats are the same? Answer with a number.

# %%
answer = None
starclip.check("00b.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `math.log(60)`, about 4.09. Each of the sixty answers has probability 1/60.
#
# </details>
#
# **2.** Every star is in the batch three times, copies sit on top of each other, and everything else is perfect and far
# away. What is the loss of the best arrangement, if copies count as negatives?

# %%
answer = None
starclip.check("00b.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `math.log(3)`, about 1.10. The right partner shares its seat with two copies, so its probability is 1/3 at best.
#
# </details>
#
# **3. (To code.)** Write the masked loss for the six seats of the last section, `seats` and `star`, at a scale of 10: pairs of
# different rows that belong to the same star must not count, neither as a right nor as a wrong answer. Start from the lines of
# "The loss, line by line". The cell compares your number with the package's, and with the loss that takes copies for negatives.

# %%
yours = None  # the masked loss, a number
if yours is not None:
    masked, copies = (info_nce(seats, seats, 10.0, known).item() for known in (star, None))
    print(f"yours {float(yours):.4f}, the package's {masked:.4f}, with copies as negatives {copies:.4f}")

# %% [markdown]
# <details><summary>Solution</summary>
#
# `logits = 10 * seats @ seats.T`, then `same = (star[:, None] == star[None, :]) & ~torch.eye(6, dtype=torch.bool)` and
# `logits = logits.masked_fill(same, -torch.inf)`: the exponential of minus infinity is 0, so these answers vanish from the sum.
# The rest as before: `yours = -(logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal()).mean().item() / 2`.
#
# </details>
#
# ## Questions
#
# 1. The loss of a perfect arrangement is not zero at $\tau = 1$, even without copies. Why? What is the smallest value it can
#    have for two stars on a circle?
# 2. Set `temperature` to 0.005 and run the loop again. What happens at first, and why does the optimiser not like it?
# 3. Two stars of the same kind are not the same star, but nearly. Are they false negatives? What should a good loss do?
# 4. Write the loss for three instruments. How many terms does it have?
#
# **Next:** [01 · Data](01_data.ipynb), the stars; [04 · StarCLIP](04_starclip.ipynb) plays this game with them.
