"""Who a mail is really from: SPF, DMARC and ARC, and the one judgement made of them."""
