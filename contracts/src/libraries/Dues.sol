// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title What an account is owed, each part of it after a delay
/// @notice Whatever is added waits a whole delay, and two at most. A part that waits is never held up by a later one:
/// while one part ripens, what comes in the meantime gathers in a second, whose time begins when that of the first ends.
library Dues {
    /// @dev Two storage slots, of which the second is written when a part has ripened.
    struct Due {
        uint96 ripening;
        uint96 fresh;
        uint40 ripeAt;
        uint96 ripe;
    }

    /// @notice Adds an amount, which then waits; zero changes nothing.
    function add(mapping(address account => Due) storage dues, address account, uint96 amount, uint40 delay) internal {
        if (amount == 0) return;
        Due memory due = _now(dues[account], delay);
        if (due.ripening == 0) (due.ripening, due.ripeAt) = (amount, uint40(block.timestamp) + delay);
        else due.fresh += amount;
        dues[account] = due;
    }

    /// @notice Takes what has waited long enough.
    function take(mapping(address account => Due) storage dues, address account, uint40 delay)
        internal
        returns (uint96 amount, uint40 claimableAt)
    {
        Due memory due = _now(dues[account], delay);
        (amount, due.ripe, claimableAt) = (due.ripe, 0, due.ripeAt);
        dues[account] = due;
    }

    /// @notice What can be taken now, what still waits, and from when on the next part of that can be taken, or zero.
    function figures(mapping(address account => Due) storage dues, address account, uint40 delay)
        internal
        view
        returns (uint96 claimable, uint96 waiting, uint40 claimableAt)
    {
        Due memory due = _now(dues[account], delay);
        return (due.ripe, due.ripening + due.fresh, due.ripeAt);
    }

    /// @dev All of `fresh` came before `ripeAt`, so that one delay from then on is long enough.
    function _now(Due memory due, uint40 delay) private view returns (Due memory) {
        while (due.ripening != 0 && block.timestamp >= due.ripeAt) {
            due.ripe += due.ripening;
            (due.ripening, due.fresh) = (due.fresh, 0);
            due.ripeAt = due.ripening == 0 ? 0 : due.ripeAt + delay;
        }
        return due;
    }
}
