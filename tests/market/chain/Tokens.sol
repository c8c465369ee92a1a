// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @dev No more than ERC-20 asks for, with six decimals: no permits, no burning, and errors without data.
contract PlainToken {
    string public constant name = "Plain";
    string public constant symbol = "PLN";
    uint256 public totalSupply = 1e9 * 1e6;
    mapping(address owner => mapping(address spender => uint256)) public allowance;
    mapping(address owner => uint256) internal _shares;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    constructor() {
        _shares[msg.sender] = totalSupply;
    }

    function decimals() external view virtual returns (uint8) {
        return 6;
    }

    function balanceOf(address owner) public view virtual returns (uint256) {
        return _shares[owner];
    }

    function approve(address spender, uint256 amount) external virtual returns (bool) {
        allowance[msg.sender][spender] = amount;
        emit Approval(msg.sender, spender, amount);
        return true;
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        _move(msg.sender, to, amount);
        return true;
    }

    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        allowance[from][msg.sender] -= amount;
        _move(from, to, amount);
        return true;
    }

    function _move(address from, address to, uint256 amount) internal virtual {
        _shares[from] -= amount;
        _shares[to] += amount;
        emit Transfer(from, to, amount);
    }
}

/// @dev Keeps a thousandth of what is sent.
contract FeeToken is PlainToken {
    function _move(address from, address to, uint256 amount) internal override {
        super._move(from, to, amount);
        _shares[to] -= amount / 1000;
    }
}

/// @dev Balances grow by a thousandth with each block.
contract GrowingToken is PlainToken {
    uint256 private immutable _first = block.number;

    function balanceOf(address owner) public view override returns (uint256) {
        return _shares[owner] * (1000 + block.number - _first) / 1000;
    }
}

/// @dev Its balances change once a day, in the way of known tokens of the kind.
contract DailyToken is PlainToken {
    function scaledTotalSupply() external view returns (uint256) {
        return totalSupply;
    }
}

/// @dev Changes no approval that is in use, and answers nothing where others say true.
contract WaryToken {
    uint8 public constant decimals = 18;
    uint256 public totalSupply = 1e6 * 1e18;
    mapping(address owner => uint256) public balanceOf;
    mapping(address owner => mapping(address spender => uint256)) public allowance;

    constructor() {
        balanceOf[msg.sender] = totalSupply;
    }

    /// @dev As tokens do that take coin: whatever is called is answered, with nothing.
    fallback() external payable {}

    function approve(address spender, uint256 amount) external {
        require(amount == 0 || allowance[msg.sender][spender] == 0);
        allowance[msg.sender][spender] = amount;
    }

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        allowance[from][msg.sender] -= amount;
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @dev Two decimals are too few for a price of a token of text.
contract CoarseToken is PlainToken {
    function decimals() external pure override returns (uint8) {
        return 2;
    }
}

/// @dev More than 96 bits hold.
contract VastToken is PlainToken {
    constructor() {
        totalSupply = 1e40;
    }
}
