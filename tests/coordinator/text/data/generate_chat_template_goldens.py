"""Writes chat_template_goldens.json: what PyPI's jinja2, set up as Hugging Face transformers does,
makes of templates with the constructs that models use. Run: python3 generate_chat_template_goldens.py
(needs jinja2). The templates are our own short equivalents."""

import datetime
import json
import pathlib

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = 1700000000  # 2023-11-14 22:13:20 UTC; the test passes the same

TEMPLATES = {
    "smollm2": (
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama3": """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- else %}
        {{- raise_exception("This model has no tools.") }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "qwen2.5": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "qwen3": """{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n\\n</think>\\n\\n' + content }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    "gemma3": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
""",
    "constructs": """{% macro show(name, value='none', sep=': ') -%}
{{ name }}{{ sep }}{{ value }};
{%- endmacro %}
{% set ns = namespace(count=0, seen=[]) %}
{% for message in messages if message.role != 'system' %}
{% set ns.count = ns.count + 1 %}
{% set ns.seen = ns.seen + [message.role] %}
{{ show(loop.index ~ '/' ~ loop.length, message.content | upper) }}
{{ show('first', loop.first) }}{{ show('last', loop.last, sep='=') }}
{% else %}
no messages
{% endfor %}
{{ ns.count }} {{ ns.seen | join(',') }} {{ ns.seen | length }}
{# a comment #}
{{ {'a': [1, 2.5, none, true], 'b': 'x"y'} | tojson }}
{% for key, value in {'k': 1, 'l': 2}.items() %}{{ key }}={{ value }}{{ ',' if not loop.last }}{% endfor %}

{{ 'a,b,c'.split(',') | reverse | join('-') }} {{ '  x '.strip() }} {{ 7 / 2 if false else 7 % 4 }}
{%- for i in range(3) %} {{ i }}{% endfor %}

{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ (missing or 'default') }}
{{ missing is defined }} {{ none is none }} {{ 'ab' in 'cab' }} {{ 'x' not in ['x'] }}
""",
}

CONVERSATIONS = {
    "one": [("user", "Hi <|im_end|> there")],
    "system": [("system", " Be brief.\n"), ("user", " Hello "), ("assistant", "Yo"), ("user", "2+2?")],
    "thought": [("user", "a"), ("assistant", "<think>\nx\n</think>\n\nok"), ("user", "b")],
    "wrong order": [("assistant", "x"), ("assistant", "y")],
}

ARGUMENTS = {
    "qwen2.5": [{}, {"tools": [{"type": "function", "name": "f", "about": "caf\u00e9 <b>"}]}],
    "qwen3": [{}, {"enable_thinking": False}],
    "llama3": [{}, {"date_string": "1 Jan 2025"}],
}


class Raised(Exception):
    pass


def render(source, variables):
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)

    def raise_exception(message):
        raise Raised(message)

    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = datetime.datetime.fromtimestamp(
        NOW, datetime.timezone.utc).strftime
    return environment.from_string(source).render(**variables)


def main():
    cases = []
    for model, template in TEMPLATES.items():
        for name, conversation in CONVERSATIONS.items():
            for arguments in ARGUMENTS.get(model, [{}]):
                messages = [{"role": role, "content": content} for role, content in conversation]
                case = {"name": f"{model}, {name}", "template": model, "messages": messages,
                        "arguments": arguments}
                try:
                    case["rendered"] = render(template, {
                        "messages": messages, "bos_token": "<bos>", "eos_token": "<eos>",
                        "add_generation_prompt": True, **arguments})
                except Raised as error:
                    case["raised"] = str(error)
                cases.append(case)
    path = pathlib.Path(__file__).with_name("chat_template_goldens.json")
    path.write_text(json.dumps({"templates": TEMPLATES, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
