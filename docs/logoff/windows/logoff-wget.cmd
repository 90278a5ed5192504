@echo off
rem Logs this computer's address out of the gateway, by wget.exe. See docs/LOGOFF.md.
rem   logoff-wget.cmd gateway.example.com
rem Without TLS no certificate has to be trusted, and nothing secret is sent: the gateway looks at the address alone.
if "%~1"=="" exit /b 64
C:\wget.exe -q --no-proxy --tries=1 --timeout=5 -O NUL http://%~1:4080/internal/logout
exit /b %errorlevel%
