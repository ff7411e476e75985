"""The cell against torch's own LSTM, and counts against the module."""

import pytest
import torch

import lstm

torch.set_num_threads(1)


@pytest.mark.exercise("3.10")
def test_steps_of_the_cell_equal_torchs_lstm():
    torch.manual_seed(0)
    layer = torch.nn.LSTM(5, 7, batch_first=True)
    x = torch.randn(3, 6, 5)
    h, c = torch.zeros(3, 7), torch.zeros(3, 7)
    want, (_, memory) = layer(x)
    for t in range(6):
        h, c = lstm.lstm_cell(x[:, t], h, c, layer.weight_ih_l0, layer.weight_hh_l0,
                              layer.bias_ih_l0 + layer.bias_hh_l0)
        gap = (h - want[:, t]).abs().max().item()
        assert gap < 1e-6, f"state is {gap:.2g} from torch's at step {t}: gate order i f g o?"
    assert (c - memory[0]).abs().max() < 1e-6, "the memory is returned second"


@pytest.mark.exercise("3.10")
def test_the_cell_on_zeros():
    zeros = torch.zeros(1, 2)
    h, c = lstm.lstm_cell(zeros, zeros, zeros + 1, torch.zeros(8, 2), torch.zeros(8, 2),
                          torch.zeros(8))
    assert c.tolist() == [[0.5, 0.5]], f"closed half-way, the gates keep half the memory: {c}"
    assert torch.allclose(h, torch.tensor(0.5).tanh() * 0.5), f"h = sigmoid(o) tanh(c): {h}"


def test_counts_equal_the_module():
    config = lstm.LSTMConfig(vocab_size=50, width=16, layers=2)
    held = sum(p.numel() for p in lstm.LSTM(config).parameters())
    assert lstm.parameters_of(config)["total"] == held
    assert lstm.lstm_flops(config, 10) == 6 * 10 * (2 * 8 * 256 + 50 * 16)


def test_first_loss_is_that_of_no_knowledge_and_no_step_sees_the_future():
    torch.manual_seed(0)
    model = lstm.LSTM(lstm.LSTMConfig(vocab_size=64, width=32))
    ids = torch.randint(64, (2, 20))
    logits, loss = model(ids, ids)
    assert abs(loss.item() - 4.159) < 0.1, f"ln 64 = 4.159, first loss {loss.item():.3f}"
    other = ids.clone()
    other[:, 12:] = 0
    assert torch.equal(model(other)[0][:, :12], logits[:, :12]), "a later token was seen earlier"
