// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IPaymentChannels} from "../src/interfaces/IPaymentChannels.sol";
import {Figures, pack} from "../src/types/Figures.sol";

/// @title What a channel keeps in one word comes out of it again, whatever it is
contract FiguresProof {
    function check_pack(uint96 settled, uint96 deposit, uint40 closeAt, uint8 status) external pure {
        if (status > uint8(type(IPaymentChannels.Status).max)) return;
        Figures figures = pack(settled, deposit, closeAt, IPaymentChannels.Status(status));
        assert(figures.settled() == settled);
        assert(figures.deposit() == deposit);
        assert(figures.closeAt() == closeAt);
        assert(uint8(figures.status()) == status);
        assert(figures.isOpen() == (status == uint8(IPaymentChannels.Status.Open)));
        assert(figures.isUnused() == (settled == 0 && deposit == 0 && closeAt == 0 && status == 0));
    }
}
