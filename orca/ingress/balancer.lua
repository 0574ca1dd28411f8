-- Which endpoint answers a request, and which certificate a host shows. Both change by a request to the control socket,
-- without a reload.
--
-- They are in the shared dictionary "orca_live": "p/NAME" holds the peers of a pool ("10.244.1.7:80 10.244.2.9:80"),
-- "c/HOST" the file of a host's certificate and key, each with "v/p/NAME" or "v/c/HOST", a number that grows with every
-- change of anything, so that a worker parses each once for a change. "orca_counts" counts requests; it may forget, so it
-- is apart. The file given to load() has the same in lines, for an nginx that starts with an empty dictionary.

local balancer = require("ngx.balancer")
local tls = require("ngx.ssl")

local M = {}

local AVOIDED_SECONDS = 10

local generation = ""  -- of the configuration that this worker serves
local pairs_by_host = {}  -- {version =, chain =, key =}
local pools = {}    -- by name: {version =, peers = {…}, next = number}
local avoided = {}  -- by peer: until when, because no connection to it came about
local tokens = {}   -- by peer: what a cookie says of it

local function dictionary()
    return ngx.shared.orca_live
end

local function split(text)
    local words = {}
    for word in text:gmatch("%S+") do
        words[#words + 1] = word
    end
    return words
end

-- Lines "p/NAME PEER PEER …" and "c/HOST FILE"; a pool alone has no endpoints, "-p/NAME" removes one.
local function take(dict, text)
    for line in text:gmatch("[^\n]+") do
        local key, value = line:match("^(%S+)%s*(.*)$")
        if key:sub(1, 1) == "-" then
            dict:delete("v/" .. key:sub(2))
            dict:delete(key:sub(2))
        else
            local stored, problem = dict:safe_set(key, value)
            if stored then
                stored, problem = dict:safe_set("v/" .. key, dict:incr("changes", 1, 0))
            end
            if not stored then
                return problem
            end
        end
    end
end

-- A dictionary outlives reloads: only an nginx that has just started has none.
function M.load(path, own_generation)
    generation = own_generation
    local dict = dictionary()
    if dict:get("changes") then
        return
    end
    local file = io.open(path)
    if not file then
        return
    end
    local problem = take(dict, file:read("*a"))
    file:close()
    if problem then
        ngx.log(ngx.ERR, "endpoints do not fit into memory: ", problem)
    end
end

-- Else all workers would take turns in step.
function M.begin()
    math.randomseed(ngx.now() * 1000 + ngx.worker.pid() * 7919)
end

function M.change()
    ngx.req.read_body()
    local body = ngx.req.get_body_data()
    if not body then
        local path = ngx.req.get_body_file()
        local file = path and io.open(path)
        body = file and file:read("*a") or ""
        if file then
            file:close()
        end
    end
    local problem = take(dictionary(), body)
    if problem then
        ngx.status = 507
        ngx.print(problem)
        return
    end
    return ngx.exit(204)
end

-- Workers of the generation named in the body are about to leave: see finish().
function M.leave()
    ngx.req.read_body()
    dictionary():set("leaving", ngx.req.get_body_data(), 10)
    return ngx.exit(204)
end

-- Before a reload, answers ask clients to close their connections themselves. Those that a worker closes when it goes may
-- have a request on its way. This nginx writes its own "Connection: keep-alive" before; "close" in any of them counts
-- (RFC 9112, 9.6). HTTP/2 has no such header, and GOAWAY instead.
function M.finish()
    if dictionary():get("leaving") == generation and ngx.req.http_version() == 1.1 then
        ngx.header["Connection"] = "close"
    end
end

local function pair_of(host)
    local dict = dictionary()
    local version = dict:get("v/c/" .. host)
    if not version then
        pairs_by_host[host] = nil
        return nil
    end
    local pair = pairs_by_host[host]
    if not pair or pair.version ~= version then
        local file = io.open(dict:get("c/" .. host) or "")
        if not file then
            return nil
        end
        local pem = file:read("*a")
        file:close()
        local chain, problem = tls.parse_pem_cert(pem)
        local key, other = tls.parse_pem_priv_key(pem)
        if not chain or not key then
            ngx.log(ngx.ERR, "certificate of ", host, ": ", problem or other)
            return nil
        end
        pair = {version = version, chain = chain, key = key}
        pairs_by_host[host] = pair
    end
    return pair
end

-- The certificate of the server that nginx has chosen by the name the client asks for; without one it shows its own.
function M.certify(host)
    local pair = pair_of(host)
    if pair then
        tls.clear_certs()
        tls.set_cert(pair.chain)
        tls.set_priv_key(pair.key)
    end
end

local function pool_of(name)
    local dict = dictionary()
    local version = dict:get("v/p/" .. name)
    local pool = pools[name]
    if not version then
        pools[name] = nil
        return nil
    end
    if not pool or pool.version ~= version then
        local peers = split(dict:get("p/" .. name) or "")
        -- Workers begin at different places, so that the first of many requests do not all meet one endpoint.
        pool = {version = version, peers = peers, next = #peers > 0 and math.random(#peers) or 1}
        pools[name] = pool
    end
    return pool
end

local function token_of(peer)
    local token = tokens[peer]
    if not token then
        token = ngx.md5("orca " .. peer):sub(1, 24)
        tokens[peer] = token
    end
    return token
end

local function remembered_peer(pool)
    local cookie = ngx.var.orca_cookie
    if not cookie or cookie == "" then
        return nil
    end
    local token = ngx.var["cookie_" .. cookie]
    ngx.ctx.token = token
    for _, peer in ipairs(token and pool.peers or {}) do
        if token_of(peer) == token then
            return peer
        end
    end
end

-- The next in turn that was not tried for this request and, when there is one, has not just refused a connection.
local function next_peer(pool, tried)
    local count, now, spare = #pool.peers, ngx.now(), nil
    for _ = 1, count do
        local peer = pool.peers[pool.next]
        pool.next = pool.next % count + 1
        if not tried[peer] then
            local since = avoided[peer]
            if not since or since <= now then
                avoided[peer] = nil
                return peer
            end
            spare = spare or peer
        end
    end
    return spare
end

-- Before anything is asked of an endpoint: is there one?
function M.admit()
    local pool = pool_of(ngx.var.orca_pool)
    if not pool or #pool.peers == 0 then
        return ngx.exit(503)
    end
    ngx.ctx.pool = pool
end

function M.balance()
    local ctx = ngx.ctx
    local pool = ctx.pool
    local first = not ctx.tried
    ctx.tried = ctx.tried or {}
    local peer
    if first then
        peer = remembered_peer(pool)
        ctx.kept = peer
        if #pool.peers > 1 then
            balancer.set_more_tries(#pool.peers - 1)
        end
    else
        -- Bytes sent by try, as "120, 0 : ": the try that begins now has no number yet. None sent: never connected.
        local sent = (ngx.var.upstream_bytes_sent or ""):match("(%d+)%D*$")
        if sent == "0" then
            avoided[ctx.peer] = ngx.now() + AVOIDED_SECONDS
        end
    end
    peer = peer or next_peer(pool, ctx.tried)
    if not peer then
        return ngx.exit(ngx.ERROR)
    end
    ctx.tried[peer] = true
    ctx.peer = peer
    local done, problem = balancer.set_current_peer(peer)
    if not done then
        ngx.log(ngx.ERR, "endpoint ", peer, ": ", problem)
        return ngx.exit(ngx.ERROR)
    end
end

-- Tells the client which endpoint it has met, when that is news.
function M.remember()
    M.finish()
    local ctx = ngx.ctx
    if not ctx.peer then
        return
    end
    local token = token_of(ctx.peer)
    if ctx.token == token or (ctx.kept and ctx.kept ~= ctx.peer and ngx.var.orca_cookie_moves ~= "1") then
        return
    end
    local cookie = ngx.var.orca_cookie .. "=" .. token .. ngx.var.orca_cookie_options
    if ngx.var.orca_cookie_secure == "on" then
        cookie = cookie .. "; Secure"
    end
    local headers = ngx.header["Set-Cookie"]
    if type(headers) == "table" then
        headers[#headers + 1] = cookie
    elseif headers then
        headers = {headers, cookie}
    else
        headers = cookie
    end
    ngx.header["Set-Cookie"] = headers
end

-- Requests by Ingress, pool and status, for metrics.
function M.count()
    local key = ngx.var.orca_ingress .. " " .. ngx.var.orca_pool .. " " .. ngx.status
    ngx.shared.orca_counts:incr(key, 1, 0)
end

function M.counts()
    local dict = ngx.shared.orca_counts
    for _, key in ipairs(dict:get_keys(0)) do
        ngx.say(key, " ", dict:get(key))
    end
end

return M
