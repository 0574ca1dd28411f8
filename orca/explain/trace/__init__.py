"""Why a pod does not reach a Service: facts are gathered from the API and from agents, then judged step by step.

``explain`` (pure) is the judge, ``gather`` asks, ``printing`` shows. Changes nothing, and guesses nothing: what could
not be found out is said to be unknown.
"""
