from board_cases import Device, board
import pytest
from hw_bridge.board.doctor import examine

@pytest.mark.parametrize(("transport","target"), [("adb","R58TEST"),("ssh","me@board"),("local","")])
def test_ladder(device: Device, transport, target):
    for s in examine(board(transport, target)): print(s)
def test_ladder_phone(phone: Device):
    import os; os.environ["TEST_TIMER"]="1"
    for s in examine(board("adb")): print(s)
