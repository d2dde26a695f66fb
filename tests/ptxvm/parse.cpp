/* parse.cpp - the text of PTX into kernels that can be run
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * Knows what nvcc makes of kernels/cuda: one level of functions, no calls, no global or local variables.
 * Anything else ends the process with its name. */
#include "ptx.h"

#include <cxxabi.h>
#include <stdio.h>
#include <stdlib.h>

#include <map>
#include <unordered_map>

struct cells {
    uint32_t at;
    bool wide;
};

struct variable {
    uint32_t align, bytes;
    bool dynamic;
};

/* One file while it is read. */
struct parser {
    const char *path;
    std::string text;
    size_t at;
    std::vector<std::string> files;
    std::map<std::string, variable> shared; /* of the module */
    std::vector<ptx_kernel *> kernels;
    /* of the kernel that is being read */
    ptx_kernel *kernel;
    std::vector<std::unordered_map<std::string, cells>> scopes; /* registers, innermost last */
    std::map<std::pair<uint64_t, bool>, uint32_t> constants;
    std::map<std::string, uint32_t> parameters, placed; /* where they begin */
    std::map<std::string, int> labels;
    std::vector<std::pair<int, std::string>> branches;
    int file, line;
};

static std::string trim(const std::string &s)
{
    size_t from = s.find_first_not_of(" \t\r\n"), to = s.find_last_not_of(" \t\r\n");

    return from == std::string::npos ? "" : s.substr(from, to - from + 1);
}

static bool begins(const std::string &s, const char *with)
{
    return s.compare(0, strlen(with), with) == 0;
}

static void refuse(const parser &p, const char *what, const std::string &text) __attribute__((noreturn));
static void refuse(const parser &p, const char *what, const std::string &text)
{
    hostgpu_fail("ptxvm: %s%s%s, source line %d: %s: %s", p.path, p.kernel ? ", kernel " : "",
                 p.kernel ? p.kernel->name.c_str() : "", p.line, what, text.c_str());
}

/* At commas outside brackets. */
static std::vector<std::string> split(const std::string &s)
{
    std::vector<std::string> parts;
    std::string part;
    int depth = 0;

    for (char c : s) {
        depth += c == '{' || c == '[' || c == '(' ? 1 : c == '}' || c == ']' || c == ')' ? -1 : 0;
        if (c == ',' && depth == 0) {
            parts.push_back(trim(part));
            part.clear();
        } else {
            part += c;
        }
    }
    if (!trim(part).empty())
        parts.push_back(trim(part));
    return parts;
}

static std::vector<std::string> words_of(const std::string &s)
{
    std::vector<std::string> words;
    size_t at = 0;

    while ((at = s.find_first_not_of(" \t\r\n", at)) != std::string::npos) {
        size_t end = s.find_first_of(" \t\r\n", at);

        words.push_back(s.substr(at, end == std::string::npos ? end : end - at));
        at = end == std::string::npos ? s.size() : end;
    }
    return words;
}

static uint32_t type_bytes(const parser &p, const std::string &type)
{
    static const std::map<std::string, uint32_t> known = {
        {".pred", 4}, {".b8", 1},  {".u8", 1},  {".s8", 1},  {".b16", 2}, {".u16", 2},
        {".s16", 2},  {".f16", 2}, {".b32", 4}, {".u32", 4}, {".s32", 4}, {".f32", 4},
        {".b64", 8},  {".u64", 8}, {".s64", 8}, {".f64", 8}};
    auto found = known.find(type);

    if (found == known.end())
        refuse(p, "unknown type", type);
    return found->second;
}

/* ".align 16 .b8 name[40]", with or without words before; name without the bracket. */
static variable read_variable(const parser &p, const std::string &text, std::string *name)
{
    variable v = {0, 0, false};
    std::vector<std::string> words = words_of(text);

    *name = words.back();
    for (size_t i = 0; i + 1 < words.size(); i++) {
        if (words[i] == ".align")
            v.align = (uint32_t)atoi(words[++i].c_str());
        else if (words[i] == ".ptr" || words[i] == ".global")
            i += words[i] == ".ptr" && words[i + 1] == ".align" ? 2 : 0;
        else if (words[i] != ".param" && words[i] != ".shared" && words[i] != ".extern" && v.bytes == 0)
            v.bytes = type_bytes(p, words[i]);
    }
    if (v.align == 0)
        v.align = v.bytes;
    size_t bracket = name->find('[');
    if (bracket != std::string::npos) {
        v.dynamic = (*name)[bracket + 1] == ']';
        v.bytes *= (uint32_t)atoi(name->c_str() + bracket + 1);
        name->resize(bracket);
    }
    return v;
}

/* -- cells -------------------------------------------------------------------------------------------------
 */

static uint32_t take_cells(ptx_kernel *k, bool wide)
{
    uint32_t at = (uint32_t)k->cells.size();

    k->cells.resize(k->cells.size() + PTX_LANES * (wide ? 8 : 4), 0xcd);
    return at;
}

static void declare_registers(parser &p, const std::string &text)
{
    std::vector<std::string> words = words_of(text); /* .reg .b32 %r<7> or .reg .pred p, q */
    bool wide = type_bytes(p, words.at(1)) == 8;

    for (std::string name : split(trim(text.substr(text.find(words[1]) + words[1].size())))) {
        size_t many = name.find('<');

        if (many == std::string::npos) {
            p.scopes.back()[name] = {take_cells(p.kernel, wide), wide};
            continue;
        }
        for (int i = 0, n = atoi(name.c_str() + many + 1); i < n; i++)
            p.scopes.back()[name.substr(0, many) + std::to_string(i)] = {take_cells(p.kernel, wide), wide};
    }
}

static uint32_t constant(parser &p, uint64_t value, bool wide)
{
    auto key = std::make_pair(wide ? value : (uint32_t)value, wide);
    auto found = p.constants.find(key);

    if (found != p.constants.end())
        return found->second;
    uint32_t at = take_cells(p.kernel, wide);
    for (int l = 0; l < PTX_LANES; l++)
        memcpy(&p.kernel->cells[at + l * (wide ? 8 : 4)], &key.first, wide ? 8 : 4);
    p.constants[key] = at;
    return at;
}

/* The address of a shared variable, placed at its first use: as badly as its alignment allows, with a gap
 * behind. */
static uint32_t place(parser &p, const std::string &name, const variable &v)
{
    auto found = p.placed.find(name);

    if (found != p.placed.end())
        return found->second;
    uint32_t at = (p.kernel->shared_end + v.align - 1) / v.align * v.align;
    if (at / v.align % 2 == 0)
        at += v.align;
    p.placed[name] = at;
    if (!v.dynamic) {
        p.kernel->variables.push_back({at, v.bytes});
        p.kernel->shared_end = at + v.bytes + 1;
    }
    return at;
}

/* Of a parameter, or a shared variable, each in its own space. Dynamic shared memory has addresses far above
 * all variables. */
static bool is_symbol(parser &p, const std::string &name, uint64_t *address)
{
    auto found = p.shared.find(name);
    auto parameter = p.parameters.find(name);

    if (parameter != p.parameters.end()) {
        *address = parameter->second;
        return true;
    }
    if (found == p.shared.end())
        return false;
    if (found->second.dynamic && p.kernel->dynamic == 0) {
        p.kernel->dynamic = PTX_DYNAMIC;
        if (p.kernel->dynamic / found->second.align % 2 == 0)
            p.kernel->dynamic += found->second.align;
    }
    *address = found->second.dynamic ? p.kernel->dynamic : place(p, name, found->second);
    return true;
}

static bool is_number(const std::string &s, uint64_t *value)
{
    if (s.size() > 2 && s[0] == '0' && (s[1] == 'f' || s[1] == 'F' || s[1] == 'd' || s[1] == 'D')) {
        *value = strtoull(s.c_str() + 2, nullptr, 16);
        return true;
    }
    if (!isdigit((unsigned char)s[0]) && s[0] != '-')
        return false;
    *value = s[0] == '-' ? (uint64_t)strtoll(s.c_str(), nullptr, 0) : strtoull(s.c_str(), nullptr, 0);
    return true;
}

static bool is_special(const std::string &s, cells *out)
{
    static const char *const names[PTX_SPECIALS] = {
        "%tid.x",   "%tid.y",   "%tid.z",    "%ntid.x",   "%ntid.y",   "%ntid.z", "%ctaid.x",
        "%ctaid.y", "%ctaid.z", "%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid", "%lanemask_lt"};

    for (uint32_t i = 0; i < PTX_SPECIALS; i++)
        if (s == names[i]) {
            *out = {i * PTX_LANES * 4, false};
            return true;
        }
    return false;
}

static bool is_register(const parser &p, const std::string &s, cells *out)
{
    for (size_t i = p.scopes.size(); i-- > 0;) {
        auto found = p.scopes[i].find(s);

        if (found != p.scopes[i].end()) {
            *out = found->second;
            return true;
        }
    }
    return is_special(s, out);
}

/* -- instructions ------------------------------------------------------------------------------------------
 */

static void add_cells(parser &p, ptx_instruction *i, char letter, const std::string &s)
{
    cells c;
    uint64_t value;

    if (i->count >= PTX_OPERANDS)
        refuse(p, "too many operands", *i->text);
    if (s == "_")
        c = {take_cells(p.kernel, letter == 'd'), letter == 'd'};
    else if (!is_register(p, s, &c)) {
        if (!is_number(s, &value) && !is_symbol(p, s, &value))
            refuse(p, "unknown operand", s + " of " + *i->text);
        c = {constant(p, value, letter == 'd'), letter == 'd'};
    }
    if ((letter == 'w' && c.wide) || (letter == 'd' && !c.wide))
        refuse(p, "register of another width", s + " of " + *i->text);
    i->wide |= (uint32_t)c.wide << i->count;
    i->at[i->count++] = c.at;
}

/* [register], [register+8], [symbol], [symbol+8] */
static void add_address(parser &p, ptx_instruction *i, const std::string &s)
{
    std::string inside = trim(s.substr(1, s.size() - 2)), base = inside;
    size_t plus = inside.find('+');
    cells c;
    uint64_t value;

    if (s[0] != '[')
        refuse(p, "not an address", s + " of " + *i->text);
    if (i->displacement != 0)
        refuse(p, "more than one displacement", *i->text);
    if (plus != std::string::npos) {
        base = trim(inside.substr(0, plus));
        i->displacement = strtoll(inside.c_str() + plus + 1, nullptr, 0);
    }
    if (is_register(p, base, &c)) {
        i->wide |= (uint32_t)c.wide << i->count;
        i->at[i->count++] = c.at;
        return;
    }
    bool parameter = p.parameters.count(base) > 0;
    if (!is_symbol(p, base, &value) || i->access.space != (parameter ? PTX_PARAMETER : PTX_SHARED))
        refuse(p, "unknown address", s + " of " + *i->text);
    i->wide |= 1u << i->count;
    i->at[i->count++] = constant(p, value, true);
}

/* Whether the operands have the shape of a form: as many, braces where it has them. */
static bool has_shape(const std::vector<std::string> &operands, const char *form)
{
    for (const std::string &s : operands) {
        size_t braces = s[0] == '{' ? split(s.substr(1, s.size() - 2)).size() : 0;

        if (*form == '\0' || braces != (isdigit((unsigned char)*form) ? (size_t)(*form - '0') : 0))
            return false;
        form += braces > 0 ? 2 : 1;
    }
    return *form == '\0';
}

static void add_operands(parser &p, ptx_instruction *i, const std::vector<std::string> &operands,
                         const char *form)
{
    for (std::string s : operands) {
        if (*form == 'l') {
            p.branches.push_back({(int)p.kernel->code.size(), s});
        } else if (*form == 'm') {
            add_address(p, i, s);
        } else if (*form == 'q') {
            size_t bar = s.find('|');

            add_cells(p, i, 'w', s.substr(0, bar));
            add_cells(p, i, 'w', bar == std::string::npos ? "_" : s.substr(bar + 1));
        } else if (isdigit((unsigned char)*form)) {
            form++;
            for (const std::string &part : split(s.substr(1, s.size() - 2)))
                add_cells(p, i, *form, part);
        } else {
            add_cells(p, i, *form, s);
        }
        form++;
    }
}

static void read_instruction(parser &p, const std::string &text)
{
    ptx_instruction i = {};
    std::string rest = text;

    p.kernel->texts.push_back(std::make_unique<std::string>(text));
    i.text = p.kernel->texts.back().get();
    i.guard = -1;
    i.target = -1;
    i.file = p.file;
    i.line = p.line;
    if (rest[0] == '@') {
        std::string name = words_of(rest)[0].substr(1);
        cells c;

        i.unless = name[0] == '!';
        if (!is_register(p, name.substr(i.unless), &c))
            refuse(p, "unknown predicate", text);
        i.guard = (int)c.at;
        rest = trim(rest.substr(name.size() + 1));
    }
    std::string opcode = words_of(rest)[0];
    std::vector<std::string> operands = split(rest.substr(opcode.size()));
    if (operands.size() == 2 && operands[1] == "%globaltimer") {
        operands.pop_back(); /* no cell holds it: it is another at every reading */
        opcode += ".globaltimer";
    }
    const std::vector<ptx_opcode> *forms = ptx_opcode_forms(opcode);

    if (!forms)
        refuse(p, "unknown opcode", opcode + " in " + text);
    for (const ptx_opcode &form : *forms)
        if (has_shape(operands, form.operands)) {
            i.run = form.run;
            i.kind = form.kind;
            i.access = form.access;
            add_operands(p, &i, operands, form.operands);
            p.kernel->code.push_back(i);
            return;
        }
    refuse(p, "unknown form", text);
}

/* -- the file ----------------------------------------------------------------------------------------------
 */

/* "void attend<8>(cuda_attend)" is attend<8>. */
static std::string source_name(const std::string &mangled)
{
    int status;
    char *text = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
    std::string name = status == 0 ? text : mangled;

    free(text);
    name = name.substr(0, name.find('('));
    if (begins(name, "void "))
        name = name.substr(5);
    std::string close;
    for (char c : name)
        close += c == ' ' ? "" : std::string(1, c);
    return close;
}

static void begin_kernel(parser &p, const std::string &header)
{
    size_t open = header.find('('), close = header.rfind(')');
    std::string name = words_of(header.substr(0, open)).back();
    size_t bound = header.find(".maxntid");
    uint32_t end = 0;

    p.kernel = new ptx_kernel{};
    p.kernel->name = source_name(name);
    p.kernel->granule = 4;
    p.kernel->most_threads = 1;
    p.kernels.push_back(p.kernel);
    p.scopes.assign(1, {});
    p.constants.clear();
    p.parameters.clear();
    p.placed.clear();
    p.labels.clear();
    p.branches.clear();
    for (int i = 0; i < PTX_SPECIALS; i++)
        take_cells(p.kernel, false);
    if (open == std::string::npos || close == std::string::npos)
        refuse(p, "entry without parameters", header);
    for (const std::string &s : split(header.substr(open + 1, close - open - 1))) {
        std::string parameter;
        variable v = read_variable(p, s, &parameter);

        end = (end + v.align - 1) / v.align * v.align;
        p.parameters[parameter] = end;
        p.kernel->parameters.push_back({end, v.bytes});
        end += v.bytes;
    }
    if (bound == std::string::npos)
        refuse(p, "no __launch_bounds__", name);
    for (const std::string &s : split(header.substr(bound + 8, header.find('.', bound + 1) - bound - 8)))
        p.kernel->most_threads *= (uint32_t)atoi(s.c_str());
}

static void end_kernel(parser &p)
{
    for (auto &branch : p.branches) {
        auto found = p.labels.find(branch.second);

        if (found == p.labels.end())
            refuse(p, "unknown label", branch.second);
        p.kernel->code[(size_t)branch.first].target = found->second;
    }
    for (const ptx_instruction &i : p.kernel->code)
        if ((i.access.space == PTX_SHARED || i.access.space == PTX_GENERIC) && i.access.bytes > 0 &&
            i.access.bytes < p.kernel->granule)
            p.kernel->granule = i.access.bytes;
    if (p.kernel->code.empty() || p.kernel->code.back().kind != PTX_EXIT)
        read_instruction(p, "ret");
    p.kernel = nullptr;
}

/* A statement that ends with a semicolon. */
static void read_statement(parser &p, const std::string &s)
{
    std::string name;

    if (s.empty() || begins(s, ".pragma"))
        return;
    if (begins(s, ".reg") && p.kernel) {
        declare_registers(p, s);
    } else if (begins(s, ".shared") || begins(s, ".extern .shared")) {
        variable v = read_variable(p, s, &name);
        p.shared[name] = v;
    } else if (s[0] == '.' || !p.kernel) {
        refuse(p, "unknown directive", s);
    } else {
        read_instruction(p, s);
    }
}

/* A line by itself; false: it is not one. */
static bool read_line(parser &p, const std::string &s)
{
    int number = 0, line = 0;

    if (begins(s, ".loc") && sscanf(s.c_str(), ".loc %d %d", &number, &line) == 2) {
        p.file = number;
        p.line = line > 0 ? line : p.line;
        return true;
    }
    if (begins(s, ".file") && sscanf(s.c_str(), ".file %d", &number) == 1) {
        size_t from = s.find('"'), to = s.rfind('"');

        if ((int)p.files.size() <= number)
            p.files.resize((size_t)number + 1);
        p.files[(size_t)number] = s.substr(from + 1, to - from - 1);
        return true;
    }
    return begins(s, ".version") || begins(s, ".target") || begins(s, ".address_size");
}

static void skip_section(parser &p)
{
    for (int depth = 1; depth > 0 && p.at < p.text.size(); p.at++)
        depth += p.text[p.at] == '{' ? 1 : p.text[p.at] == '}' ? -1 : 0;
}

/* A brace in a statement: of a kernel, of a scope, or around operands (false). */
static bool read_brace(parser &p, char c, const std::string &s)
{
    if (c == '{' && begins(s, ".section")) {
        skip_section(p);
    } else if (c == '{' && (begins(s, ".entry") || begins(s, ".visible") || begins(s, ".weak"))) {
        begin_kernel(p, s);
    } else if (c == '{' && s.empty()) {
        p.scopes.push_back({});
    } else if (c == '}' && s.empty()) {
        if (p.scopes.size() == 1)
            end_kernel(p);
        p.scopes.pop_back();
    } else {
        return false;
    }
    return true;
}

static void read_text(parser &p)
{
    std::string statement;

    while (p.at < p.text.size()) {
        char c = p.text[p.at++];
        std::string so_far = c == '{' || c == '}' || c == ':' || c == ';' || c == '\n' ? trim(statement) : "";
        bool whole = c == ';';

        if (c == '/' && p.text[p.at] == '/') {
            p.at = std::min(p.text.find('\n', p.at), p.text.size());
            continue;
        }
        if (c == ';')
            read_statement(p, so_far);
        else if (c == '\n')
            whole = read_line(p, so_far);
        else if (c == ':' && so_far.find_first_of(" .\t") == std::string::npos && p.kernel) {
            p.labels[so_far] = (int)p.kernel->code.size();
            whole = true;
        } else if (c == '{' || c == '}')
            whole = read_brace(p, c, so_far);
        if (whole)
            statement.clear();
        else
            statement += c == '\n' ? ' ' : c;
    }
}

void ptx_parse(std::vector<std::unique_ptr<ptx_kernel>> &to, const char *path)
{
    parser p = {};
    char room[1 << 16];
    FILE *f = fopen(path, "r");

    if (!f)
        hostgpu_fail("ptxvm: %s cannot be read", path);
    for (size_t n; (n = fread(room, 1, sizeof room, f)) > 0;)
        p.text.append(room, n);
    fclose(f);
    p.path = path;
    read_text(p);
    for (ptx_kernel *k : p.kernels) {
        k->files = p.files;
        to.emplace_back(k);
    }
}
