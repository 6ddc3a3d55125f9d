"""A mocked model that calls the first function it is offered, and then says what that answered.

LiteLLM's own `mock_tool_calls` is for answers that are no streams; a hook can mock both.
"""

from litellm.integrations.custom_logger import CustomLogger
from litellm.types.utils import ModelResponse


class CallingModel(CustomLogger):
    async def async_pre_call_hook(self, user_api_key_dict, cache, data, call_type):
        if data.get("model") != "bell-caller":
            return data
        answers = [message["content"] for message in data["messages"] if message["role"] == "tool"]
        if answers:
            data["mock_response"] = "The service says " + answers[-1]
        elif data.get("tools"):
            function = {"name": data["tools"][0]["function"]["name"], "arguments": '{"symbol": "ACME"}'}
            call = {"id": "call_bell", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
            choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
            data["mock_response"] = ModelResponse(choices=[choice])
        else:
            data["mock_response"] = "I was offered nothing"
        return data


calling_model = CallingModel()
