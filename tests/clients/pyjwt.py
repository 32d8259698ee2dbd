"""Tokens by PyJWT, an implementation that is not weir's.

    token.py sign SECRET CLAIMS     prints a token of these claims, in JSON
    token.py read SECRET TOKEN      prints what a good token says, its header first
"""

import json
import sys

import jwt

command, secret, given = sys.argv[1:]
if command == "sign":
    print(jwt.encode(json.loads(given), secret, algorithm="HS256"))
else:
    claims = jwt.decode(given, secret, algorithms=["HS256"], options={"verify_aud": False})
    print(json.dumps([jwt.get_unverified_header(given), claims]))
