"""Money: balanced postings, balances, holds."""
